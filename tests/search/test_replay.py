"""The event log replays bit for bit: every proposal follows from what it saw."""

import multiprocessing
from typing import TYPE_CHECKING, Any

import pytest

from search.coordinator import Coordinator
from search.replay import Replay, Replayed
from search.running import owner_name
from search.storage import jobs
from search.storage.database import Database
from search.storage.models import Event

from .test_batches import Uneven

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

SPEC: dict[str, Any] = {"finalists": {"count": 0}, "screen": {"candidates": 2, "sample": 0}}


def replayed(url: str, job_id: str, plan: Any) -> list[Replayed]:
    return Replay(Database.open(url), job_id, plan).run()


def searched(bench: Bench, plan: Any, slots: int, *, beside: bool = False) -> tuple[Database, str]:
    database = bench.open()
    job_id = bench.create(plan, database)
    with database.write() as session:
        job = jobs.take(session, job_id, owner_name(), 15.0, database.now())
    with Uneven(plan, database.data_dir / "training", slots) as executor:
        Coordinator(database, job, plan, executor, beside=beside).run()
    return database, job_id


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["surrogate", pytest.param("tpe", marks=pytest.mark.soak)])
def test_a_search_of_three_workers_replays_in_another_process(bench: Bench, kind: str) -> None:
    plan = bench.plan(**SPEC, strategy={"kind": kind}, budget={"trials": 22})
    _, job_id = searched(bench, plan, 3, beside=True)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply(replayed, (bench.url, job_id, plan))
    assert [one.number for one in found] == list(range(22))
    assert {one.verdict for one in found} == {"equal"}
    assert any(len(one.found) == 2 for one in found)


def test_a_log_that_was_changed_does_not_replay(bench: Bench) -> None:
    plan = bench.plan(**SPEC, strategy={"kind": "random"}, budget={"trials": 5})
    database, job_id = searched(bench, plan, 2)
    assert {one.verdict for one in Replay(database, job_id, plan).run()} == {"equal"}
    with database.write() as session:
        rows = session.query(Event).filter_by(job_id=job_id, kind="trial.created", trial=4)
        changed = rows.one()
        changed.data = {**changed.data, "asked": {**changed.data["asked"], "candidates": ["0" * 32]}}
        older = session.query(Event).filter_by(job_id=job_id, kind="trial.created", trial=3).one()
        older.data = {key: value for key, value in older.data.items() if key != "asked"}
    verdicts = {one.number: one.verdict for one in Replay(database, job_id, plan).run()}
    assert (verdicts[4], verdicts[3], verdicts[0]) == ("different", "unknown", "equal")
