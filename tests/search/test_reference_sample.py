"""The frozen sample: scored once, before anything is chosen, and the same whoever else is in the pool."""

import time
from pathlib import Path
from typing import Any

import pytest

from evaluators.protocol import Measurement
from search.clock import Clock
from search.job import parse_job
from search.ledger import Ledger
from search.plan import plan_job
from search.reference_sample import PIECE, ReferenceSample
from search.running import create_job, owner_name
from search.storage import jobs
from search.storage.database import Database
from search.workers.stages import pack
from search.workers.work import Outcome, Work
from space.architecture import parse_architecture
from space.costs import num_params

NAMES = ("naswot", "zico")
JOB: dict[str, Any] = {
    "task": {"kind": "image", "dataset": "digits"},
    "proxies": list(NAMES),
    "screen": {"candidates": 2, "sample": 20},
    "references": {"sizes": 1},
}


def opened(folder: Path, changes: dict[str, Any] | None = None) -> Ledger:
    plan = plan_job(parse_job({**JOB, **(changes or {})}))
    database = Database.open(f"sqlite:///{folder / 'jobs.db'}", data_dir=folder / "data")
    created = create_job(database, plan)
    with database.write() as session:
        job = jobs.take(session, created.id, owner_name(), 15.0, time.time())
    return Ledger(database, job, plan, Clock())


def scored(value: float) -> dict[str, Measurement]:
    return {name: Measurement(name, value, "1", "computed") for name in NAMES}


def answer(work: Work) -> Outcome:
    """Size is every proxy; the first of each piece cannot have the second one."""
    models = [parse_architecture(text) for text in work.payload["architectures"]]
    rows = [
        {name: pack(value) for name, value in scored(float(num_params(model))).items()} for model in models
    ]
    rows[0][NAMES[1]] = pack(Measurement(NAMES[1], None, "1", "computed", status="unsupported"))
    return Outcome(work.key, result={"proxies": rows, "blocks": {}})


def worked(sample: ReferenceSample) -> list[Work]:
    done = []
    while (work := sample.next()) is not None:
        done.append(work)
        sample.take(work.key, answer(work))
    return done


def test_a_sample_is_scored_in_pieces_and_then_ranks_the_same_in_any_company(tmp_path: Path) -> None:
    sample = ReferenceSample(opened(tmp_path))
    assert not sample.is_ready
    done = worked(sample)
    assert sample.is_ready
    counts = [len(work.payload["architectures"]) for work in done]
    assert sum(counts) == 20
    assert max(counts) == PIECE
    low, high, other = (scored(value) for value in (1e3, 1e9, 5e4))
    small, large = sample.ranks([low, high])
    assert small > large  # smaller is better
    assert sample.ranks([other, high, low])[1:] == [large, small]


def test_a_coordinator_that_takes_over_asks_for_what_is_missing_only(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    first = ReferenceSample(ledger)
    work = first.next()
    assert work is not None
    first.take(work.key, answer(work))
    left = worked(second := ReferenceSample(ledger))
    assert sum(len(one.payload["architectures"]) for one in left) == 20 - PIECE
    worked(first)
    assert first.ranks([scored(3e4)]) == second.ranks([scored(3e4)])


def test_what_cannot_be_scored_leaves_the_sample(tmp_path: Path) -> None:
    sample = ReferenceSample(opened(tmp_path))
    while (work := sample.next()) is not None:
        sample.take(work.key, Outcome(work.key, reason="timeout"))
    assert sample.is_ready
    assert sample.ranks([scored(1.0), scored(2.0)])[0] == sample.ranks([scored(2.0)])[0]


@pytest.mark.parametrize(
    "changes", [{"screen": {"sample": 0}}, {"screen": {"candidates": 1}}, {"proxies": []}]
)
def test_a_job_that_ranks_nothing_by_it_has_none(changes: dict[str, Any], tmp_path: Path) -> None:
    sample = ReferenceSample(opened(tmp_path, changes))
    assert sample.is_ready
    assert sample.next() is None
    assert sample.ranks([scored(1.0), scored(2.0)]) == [2.0, 1.0]  # among themselves
