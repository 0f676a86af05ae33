"""Architectures that a person brings along: tried first, or as references of one's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from search.given import names_files
from search.job import parse_job
from search.plan import job_context, plan_job
from search.running import stored_plan
from search.storage import jobs, trials
from search.workers.store import store_of
from space.architecture import Architecture, parse_architecture
from space.errors import InvalidInputError
from space.export import write_folder
from space.model import build_model

from .conftest import SMALL, Bench


def vanilla(**changes: Any) -> Architecture:
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 2},
        "feed_forward": {"kind": "mlp", "activation": "relu", "d_ff": 96},
        "norm": {"kind": "layernorm"},
    }
    return parse_architecture(
        {
            "model": "decoder",
            "interface": {"input": "bytes", "vocab_size": 256, "context_length": 128, "outputs": 256},
            "d_model": 48,
            "position": {"kind": "learned"},
            "layers": [layer],
            "final_norm": {"kind": "layernorm"},
            "head": {"kind": "language"},
            **changes,
        }
    )


def spec_of(*own: Any, enqueue: tuple[Any, ...] = ()) -> dict[str, Any]:
    return {**SMALL, "references": {"sizes": 1, "own": list(own)}, "enqueue": list(enqueue)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "house.json"
    path.write_text(vanilla().canonical_json)
    return path


@pytest.mark.slow
def test_a_model_of_ones_own_is_a_reference_of_the_job(bench: Bench, file: Path) -> None:
    plan = bench.plan(references={"sizes": 1, "own": [str(file)]})
    assert [one.name for one in plan.references][-1] == "own house"
    database = bench.open()
    job_id = bench.create(plan, database)
    file.unlink()  # a job keeps what it read
    with database.read() as session:
        again = stored_plan(jobs.get(session, job_id), store_of(database))
    assert [one.architecture.id for one in again.references] == [
        one.architecture.id for one in plan.references
    ]
    bench.work(job_id, plan, database=database)
    with database.read() as session:
        rows = [one for one in trials.all_trials(session, job_id) if one.note == "own house"]
    (row,) = rows
    assert (row.origin, row.state, row.architecture_id) == ("reference", "completed", vanilla().id)
    assert "latency_s" in row.values
    database.close()


def test_it_comes_as_a_file_a_folder_or_in_place_and_once(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    write_folder(build_model(vanilla(), seed=0), vanilla(), folder, formats=["torch"])
    written = json.loads(vanilla().canonical_json)
    for own, name in ((str(file), "own house"), (str(folder), "own exported"), (written, "own 1")):
        plan = plan_job(parse_job(spec_of(own)))
        assert (plan.references[-1].name, plan.references[-1].architecture) == (name, vanilla())
    twice = plan_job(parse_job(spec_of(written, str(file))))
    assert [one.family for one in twice.references].count("own") == 1
    assert job_context(twice)["own_references"][0]["name"] == "own 1"


def test_an_exported_folder_or_an_architecture_in_place_can_be_tried_first(tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    write_folder(build_model(vanilla(), seed=0), vanilla(), folder, formats=["torch"])
    written = json.loads(vanilla().canonical_json)
    for given, paths in ((str(folder), 1), (written, 0)):
        spec = parse_job(spec_of(enqueue=(given,)))
        assert [one.id for one in plan_job(spec).enqueued] == [vanilla().id]
        assert len(names_files(spec)) == paths


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ("nowhere.json", "'nowhere.json' cannot be read"),
        ({"model": "decoder"}, "the architecture in place"),
        (7, "references.own"),
    ],
)
def test_what_cannot_be_a_reference_is_refused_before_anything_is_stored(own: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        plan_job(parse_job(spec_of(own)))


def test_a_reference_for_another_task_is_refused() -> None:
    other = json.loads(vanilla().canonical_json)
    other["interface"]["context_length"] = 64
    with pytest.raises(InvalidInputError, match=r"references\.own: .* needs a decoder for"):
        plan_job(parse_job(spec_of(other)))


def test_paths_are_told_from_architectures_in_place(file: Path) -> None:
    written = json.loads(vanilla().canonical_json)
    assert names_files(parse_job(spec_of(written))) == []
    assert names_files(parse_job(spec_of(written, str(file), enqueue=("a.json",)))) == ["a.json", str(file)]
    taught = {"finalists": {"teacher": "models/large"}}
    assert names_files(parse_job({**SMALL, **taught})) == ["models/large"]
