"""Finalists that learn from the job's largest architecture."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evaluators.latency import Target
from evaluators.training import prepare_task
from search.storage import jobs, trials
from search.storage.database import Database
from search.workers.stages import Bench as Data
from search.workers.stages import outcome_of
from search.workers.work import Work
from space.architecture import parse_architecture
from space.search_space import load_preset

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
