"""Finalists that learn from the job's largest architecture."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from evaluators.latency import Target
from evaluators.training import prepare_task
from evaluators.training.distillation import Teacher, build_teacher
from search.continuing import continued_plan
from search.export_facts import teacher_name
from search.job import parse_job
from search.own_teacher import keep_teacher
from search.plan import plan_job
from search.retention import prune
from search.retraining import retraining_plan
from search.running import create_job, stored_plan
from search.storage import jobs, trials
from search.storage.database import Database
from search.workers.stages import Bench as Data
from search.workers.stages import outcome_of
from search.workers.store import Store, store_of
from search.workers.work import Work
from space.architecture import Architecture, parse_architecture
from space.errors import InvalidInputError, ServiceError
from space.export import write_folder
from space.model import build_model
from space.search_space import load_preset

from .conftest import SMALL
from .test_given import vanilla

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

TAUGHT = {"count": 1, "seeds": 2, "steps": 12, "teacher": "largest"}


def _final_trainings(bench: Bench, database: Database, finalists: dict[str, Any]) -> tuple[str, list[Work]]:
    """A finished job, and the trainings of its finalists."""
    seen: list[Work] = []
    plan = bench.plan(finalists=finalists, budget={"trials": 3}, screen={"candidates": 1})
    job_id = bench.create(plan, database)
    bench.work(job_id, plan, database=database, pause=seen.append)
    return job_id, [work for work in seen if work.stage == "train" and work.payload["plan"]["steps"] == 12]


@pytest.mark.slow
def test_the_largest_trained_architecture_teaches_every_finalist(bench: Bench) -> None:
    database = bench.open()
    _, alone = _final_trainings(bench, database, {**TAUGHT, "teacher": "none"})
    assert alone
    assert all(not work.payload["plan"]["teacher"] and work.payload["teacher"] is None for work in alone)

    job_id, trainings = _final_trainings(bench, database, TAUGHT)
    assert len(trainings) == len(alone)  # numbers without a teacher are not taken for those with one
    with database.read() as session:
        rows, job = trials.all_trials(session, job_id), jobs.get(session, job_id)
    largest = max(row.values["params"] for row in rows if row.state == "completed")
    teacher = job.context["teacher"]
    assert next(row for row in rows if row.number == teacher["trial"]).values["params"] == largest
    assert {work.payload["plan"]["teacher"] for work in trainings} == {teacher["checkpoint"]}
    assert {work.payload["teacher"] for work in trainings} == {json.dumps(teacher["architecture"])}
    assert any(row.final for row in rows)

    _, again = _final_trainings(bench, database, TAUGHT)
    assert again == []  # the second job's numbers, found again


def exported(folder: Path, **changes: Any) -> tuple[Path, Architecture]:
    """A model of the user's, as `paretoformer export --format torch` writes it."""
    architecture = vanilla(**changes)
    write_folder(build_model(architecture, seed=3), architecture, folder, formats=["torch"])
    return folder, architecture


def test_a_model_of_the_users_own_teaches_and_is_kept_with_the_job(bench: Bench, tmp_path: Path) -> None:
    folder, architecture = exported(tmp_path / "large model")
    finalists = {**TAUGHT, "teacher": str(folder)}
    plan = bench.plan(finalists=finalists, budget={"trials": 3}, screen={"candidates": 1})
    assert plan.teacher is not None
    database = bench.open()
    job_id = bench.create(plan, database)
    shutil.rmtree(folder)  # a job keeps what it read
    with database.read() as session:
        job = jobs.get(session, job_id)
    again = stored_plan(job, store_of(database))
    assert again.teacher == replace(plan.teacher, folder=None)
    kept = database.data_dir / "training" / plan.teacher.checkpoint
    model = build_teacher(Teacher(again.teacher.architecture, kept), architecture)
    given = build_model(architecture, seed=3).eval()
    tokens = torch.arange(64)[None]
    assert torch.equal(model.eval()(tokens), given(tokens))

    seen: list[Work] = []
    bench.work(job_id, again, database=database, pause=seen.append)
    final = [work for work in seen if work.stage == "train" and work.payload["plan"]["steps"] == 12]
    assert {work.payload["plan"]["teacher"] for work in final} == {plan.teacher.checkpoint}
    assert {parse_architecture(work.payload["teacher"]) for work in final} == {architecture}
    with database.read() as session:
        rows, job = trials.all_trials(session, job_id), jobs.get(session, job_id)
    assert any(row.final for row in rows)
    assert teacher_name(job.context["teacher"]) == "the user's model 'large model'"
    follower = continued_plan(job, ["budget.trials=4"], store_of(database))
    assert follower.teacher == again.teacher
    assert continued_plan(job, ["finalists.teacher=largest"], store_of(database)).teacher is None
    pictures = [
        'task={"kind": "image", "dataset": "digits"}',
        "space.preset=vision-small",
        "objectives=[quality, params]",
    ]
    with pytest.raises(InvalidInputError, match="teacher: 'large model' is a decoder"):
        continued_plan(job, pictures, store_of(database))

    picks = [row for row in rows if row.number >= 0 and row.state == "completed"]
    assert retraining_plan(job, picks[:1], store_of(database)).teacher == again.teacher
    shutil.rmtree(kept)  # retention took it
    for lost in (
        lambda: retraining_plan(job, picks[:1], store_of(database)),
        lambda: create_job(database, again),
    ):
        with pytest.raises(ServiceError, match="'large model' are no longer kept; give its folder anew"):
            lost()
    with pytest.raises(InvalidInputError, match="is no folder with"):
        continued_plan(job, [], store_of(database))
    exported(folder)
    anew = continued_plan(job, [], store_of(database))
    assert anew.teacher == plan.teacher
    create_job(database, anew)
    assert kept.is_dir()
    database.close()


def test_a_teacher_that_is_used_again_is_as_new_for_retention(bench: Bench, tmp_path: Path) -> None:
    folder, _ = exported(tmp_path / "model")
    plan = plan_job(parse_job({**SMALL, "finalists": {"teacher": str(folder)}}))
    database = bench.open()
    assert plan.teacher is not None
    keep_teacher(plan.teacher, store_of(database))
    place = database.data_dir / "training" / "teachers" / plan.teacher.digest
    os.utime(place, (50.0, 50.0))
    assert prune(database, 500.0, 1000.0, dry_run=True).checkpoints == 1
    keep_teacher(plan.teacher, store_of(database))
    assert prune(database, 500.0, 1000.0, dry_run=True).checkpoints == 0
    store = Store(database.data_dir, f"file://{tmp_path / 'shared'}")
    keep_teacher(plan.teacher, store)
    assert Store(tmp_path / "other machine", store.url).has(f"training/{plan.teacher.checkpoint}")
    database.close()


def test_what_cannot_teach_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    def refused(teacher: Path, words: str) -> None:
        with pytest.raises(InvalidInputError, match=words):
            plan_job(parse_job({**SMALL, "finalists": {"teacher": str(teacher)}}))

    refused(tmp_path / "nowhere", "is no folder with architecture.json and model.safetensors; give one that")
    refused(tmp_path / ("n" * 300), "is no folder with")
    refused(tmp_path / "model.pt2", "runs the pickles in it; give the folder")
    other, _ = exported(tmp_path / "other", head={"kind": "language"}, interface={
        "input": "bytes", "vocab_size": 256, "context_length": 64, "outputs": 256,
    })  # fmt: skip
    refused(other, "needs a decoder for")
    torn, _ = exported(tmp_path / "torn")
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    refused(torn, "does not hold this architecture's weights")
    wrong, _ = exported(tmp_path / "wrong")
    (wrong / "architecture.json").write_text("{}")
    refused(wrong, "finalists.teacher: '.*wrong'")


def test_a_teacher_that_changed_since_it_was_read_is_not_kept(bench: Bench, tmp_path: Path) -> None:
    folder, architecture = exported(tmp_path / "model")
    plan = plan_job(parse_job({**SMALL, "finalists": {"teacher": str(folder)}}))
    shutil.rmtree(folder)
    write_folder(build_model(architecture, seed=4), architecture, folder, formats=["torch"])
    with pytest.raises(InvalidInputError, match="has changed since it was read"):
        bench.create(plan)


@pytest.mark.slow
def test_a_worker_builds_the_teacher_from_what_it_is_sent(tmp_path: Path) -> None:
    data = prepare_task("image", "digits")
    space = load_preset("vision-small").with_domains({"d_model": [16, 32], "num_layers": [1]})
    space = space.for_interface(data.interface())
    student, teacher = (
        parse_architecture(space.decode({"d_model": width}).canonical_json).with_number_format("fp32")
        for width in (16, 32)
    )
    folder = tmp_path / "training"
    folder.mkdir()
    bench = Data(data, Target(), folder, tmp_path)

    def trained(text: str, **plan: Any) -> dict[str, Any]:
        payload = {
            "architecture": text, "plan": {"steps": 6, "batch_size": 32, **plan}, "seed": 0, "until": 6,
            "teacher": teacher.canonical_json if plan else None,
        }  # fmt: skip
        outcome = outcome_of(Work("train", "train", payload, 60.0), bench)
        assert outcome.result is not None, outcome.message
        return dict(outcome.result)

    large = trained(teacher.canonical_json)
    alone, learned = (
        trained(student.canonical_json, **plan) for plan in ({}, {"teacher": large["checkpoint"]})
    )
    assert alone["checkpoint"] != learned["checkpoint"]
    assert learned["metrics"]["loss"]["value"] != alone["metrics"]["loss"]["value"]
    lost = outcome_of(
        Work("train", "train", {
            "architecture": student.canonical_json, "seed": 1, "until": 6, "teacher": teacher.canonical_json,
            "plan": {"steps": 6, "batch_size": 32, "teacher": "gone/6"},
        }, 60.0), bench,
    )  # fmt: skip
    assert "checkpoint" in lost.message
    assert "is missing or damaged" in lost.message
