"""Faults of faults.md that have no other place: clocks, zones, beats, deletion, the schema of others."""

import multiprocessing
import os
import random
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from search.clock import SharedClock
from search.coordinator import Coordinator, LeaseLostError
from search.heartbeat import Heartbeat
from search.records import FINAL_TRIAL_STATES
from search.running import owner_name, result
from search.storage import jobs, trials
from search.storage.check import check
from search.storage.database import Database
from search.storage.models import Base
from search.workers.work import Outcome
from space.errors import ConflictError

from .conftest import FormulaExecutor
from .fault_kit import Chronicle

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

QUICK: dict[str, Any] = {
    "training": {"steps": 8, "rungs": 1}, "screen": {"candidates": 1}, "finalists": {"count": 0},
    "strategy": {"kind": "random"}, "budget": {"trials": 3},
}  # fmt: skip
SCHEMAS = Path(__file__).parents[1] / "data" / "schema"


def test_f21_a_jump_of_this_machines_time_moves_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    steady, day = 100.0, {"now": 1e9}
    monkeypatch.setattr("search.clock.time.monotonic", lambda: steady)
    clock = SharedClock(lambda: day["now"])
    day["now"] += 86_400  # somebody sets the time of day
    assert clock.time() == 1e9
    steady = 110.0
    assert clock.time() == 1e9 + 10
    steady = 200.0
    assert clock.time() == day["now"], "after half a minute the shared clock counts again"


def test_f21_leases_of_postgresql_are_by_its_own_clock(
    new_postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open(new_postgresql, data_dir=tmp_path)
    monkeypatch.setattr("search.storage.database.time.time", lambda: 5.0)
    assert abs(database.now() - time.clock_gettime(time.CLOCK_REALTIME)) < 60
    database.close()


def test_f22_times_are_utc_in_every_zone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        plan, database = bench.plan(**QUICK), bench.open()
        job = result(database, bench.create(plan, database)).job
    finally:
        monkeypatch.undo()
        time.tzset()
    assert job.created_at.utcoffset() is not None
    assert abs(job.created_at.timestamp() - time.time()) < 60


def test_f10_a_coordinator_without_beats_loses_its_job_and_stops(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Heartbeat, "_run", lambda self: None)
    plan, database = bench.plan(**QUICK), bench.open()
    job_id = bench.create(plan, database)
    with database.write() as session:
        job = jobs.take(session, job_id, "first:1:1", 0.05, time.time())
    taken: list[int] = []

    def other(coordinator: Coordinator) -> None:
        time.sleep(0.06)
        if not taken:
            with database.write() as session:
                claimed = jobs.claim(session, "second:1:1", 15.0, time.time())
            assert claimed is not None
            taken.append(claimed.fence)

    executor = FormulaExecutor(plan, database.data_dir / "training")
    with pytest.raises((LeaseLostError, ConflictError)):
        Coordinator(database, job, plan, executor, lease_s=0.05, on_tick=other).run()
    assert taken == [2]


def test_f11_a_busy_coordinator_keeps_its_lease(bench: Bench) -> None:
    """Beats come from a thread beside it; work that holds the interpreter lock is in other processes."""
    plan, database = bench.plan(**QUICK), bench.open()
    job_id = bench.create(plan, database)
    with database.write() as session:
        job = jobs.take(session, job_id, owner_name(), 1.0, time.time())
    with Heartbeat(database, job, lease_s=1.0, clock=SharedClock(database.now)) as beat:
        end = time.monotonic() + 3.0
        while time.monotonic() < end:  # three lease periods
            sum(range(1000))
        assert not beat.lost.is_set()
    with database.read() as session:
        assert (jobs.get(session, job_id).lease_until or 0.0) > time.time() - 0.5


@pytest.mark.slow
def test_f60_cancel_and_the_last_result_race_and_one_of_them_wins(bench: Bench) -> None:
    """Eight races; the state machine test has the sequences."""
    plan, database = bench.plan(**QUICK), bench.open()
    rng = random.Random(0)
    ends = set()
    for _ in range(8):
        job_id = bench.create(plan, database)
        with database.write() as session:
            job = jobs.take(session, job_id, owner_name(), 15.0, time.time())

        def cancel(job_id: str = job_id, wait_s: float = rng.uniform(0.0, 0.2)) -> None:
            time.sleep(wait_s)
            try:
                with database.write() as session:
                    jobs.request(session, job_id, "cancel")
            except ConflictError:
                pass

        racer = threading.Thread(target=cancel)
        racer.start()
        Coordinator(database, job, plan, FormulaExecutor(plan, database.data_dir / "training")).run()
        racer.join()
        found = result(database, job_id).job
        ends.add(found.state)
        with database.read() as session:
            assert all(row.state in FINAL_TRIAL_STATES for row in trials.all_trials(session, job_id))
    assert ends <= {"completed", "cancelled"}
    assert check(database) == []


def test_f27_statements_of_postgresql_have_a_time_limit(new_postgresql: str, tmp_path: Path) -> None:
    database = Database.open(new_postgresql, data_dir=tmp_path)
    with database.read() as session:
        assert session.scalar(text("SHOW statement_timeout")) == "1min"
    database.close()


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.db")), ids=lambda path: path.stem)
def test_f35_a_program_of_an_older_schema_can_go_on_writing(path: Path) -> None:
    """What was added since may be left out of an INSERT: it is nullable or has a default."""
    connection = sqlite3.connect(path)
    for table in Base.metadata.sorted_tables:
        known = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
        added = [column for column in table.columns if known and column.name not in known]
        assert all(column.nullable or column.server_default is not None for column in added), table.name
    connection.close()


@pytest.mark.slow
def test_f02_a_result_that_nobody_was_told_is_computed_again_and_counted_once(
    bench: Bench, tmp_path: Path
) -> None:
    """The worker is the coordinator's own process here: it dies with the third result in its hands."""
    plan = bench.plan(**QUICK)
    job_id = bench.create(plan)
    chronicle = Chronicle(tmp_path)

    def die() -> None:
        take, results = Coordinator._take, 0

        def dying(self: Coordinator, outcome: Outcome) -> None:
            nonlocal results
            results += outcome.result is not None
            if results == 3:
                chronicle.write("computed", work=outcome.key)
                os.kill(os.getpid(), signal.SIGKILL)
            take(self, outcome)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Coordinator, "_take", dying)
            bench.work(job_id, plan)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (lost,) = [one["work"] for one in chronicle.read()]
    again = bench.work(job_id, plan)
    assert sum(one.startswith(f"{lost}/") for one in again.done) == 1
    database = bench.open()
    assert result(database, job_id).job.state == "completed"
    assert chronicle.faults(database, job_id) == []
    database.close()
