"""Gates G1, G3, G6 and G8 of faults.md at CI size, on both engines; `-m soak` runs the stated sizes.

`benchmarks.gates_engine` runs the latter and keeps their figures.
"""

import multiprocessing
import os
import random
import signal
import statistics
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from search.coordinator import Coordinator
from search.ledger import Ledger
from search.records import JobRecord, TrialRecord
from search.running import owner_name, result
from search.storage import events, jobs, trials
from search.storage.check import check
from search.storage.database import Database
from search.workers.work import Work
from space.errors import UnavailableError

from .conftest import FormulaExecutor
from .fault_kit import Chronicle, Faults, functions, record, recorded

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

FORK = multiprocessing.get_context("fork")  # from a process that has imported everything
ONE_RUNG: dict[str, Any] = {
    "training": {"steps": 8, "rungs": 1}, "screen": {"candidates": 1}, "finalists": {"count": 0},
    "strategy": {"kind": "random"},
}  # fmt: skip
TWO_RUNGS: dict[str, Any] = {"training": {"steps": 8, "rungs": 2}, "screen": {"candidates": 1}}

Visit = tuple[int, str, str, int, bool]


def visited(database: Database, job_id: str) -> list[Visit]:
    """What was tried, how far it came and what is on the front, without times."""
    with database.read() as session:
        rows: list[TrialRecord] = trials.all_trials(session, job_id)
    return [(row.number, row.architecture_id, row.state, row.rung, row.on_front) for row in rows]


def whole_run(bench: Bench, folder: Path, changes: dict[str, Any]) -> list[Visit]:
    """The same job without interruption, in a database of its own."""
    plan = bench.plan(**changes)
    database = Database.open(folder / "whole.db", data_dir=folder / "whole")
    job_id = bench.create(plan, database)
    bench.work(job_id, plan, database=database)
    found = visited(database, job_id)
    database.close()
    return found


def killed_coordinators(bench: Bench, folder: Path, kills: int, changes: dict[str, Any], work_s: float,
                        life_s: tuple[float, float]) -> tuple[int, str, Chronicle]:  # fmt: skip
    """Kills coordinators at random moments, as often as the job lives; then one runs to the end."""
    plan = bench.plan(**changes)
    database = bench.open()
    job_id = bench.create(plan, database)
    database.close()
    chronicle = Chronicle(folder)
    rng = random.Random(0)

    def coordinate() -> None:
        with pytest.MonkeyPatch.context() as patch:
            count = Ledger.complete

            def told(self: Ledger, trial: TrialRecord, *found: Any, **more: Any) -> None:
                count(self, trial, *found, **more)
                chronicle.write("counted", trial=trial.number)

            patch.setattr(Ledger, "complete", told)
            bench.work(job_id, plan, pause=lambda work: time.sleep(work_s))
        os._exit(0)

    killed = 0
    while True:
        process = FORK.Process(target=coordinate)
        process.start()
        process.join(rng.uniform(*life_s) if killed < kills else None)
        if process.exitcode is not None:
            assert process.exitcode == 0
            return killed, job_id, chronicle
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed += 1


@pytest.mark.slow
def test_g1_f14_f19_kills_of_the_coordinator_lose_and_double_nothing(
    any_bench: Bench, tmp_path: Path
) -> None:
    changes = {**ONE_RUNG, "budget": {"trials": 120}}
    whole = whole_run(any_bench, tmp_path, changes)
    killed, job_id, chronicle = killed_coordinators(any_bench, tmp_path, 40, changes, 0.02, (0.05, 0.15))
    database = any_bench.open()
    assert chronicle.faults(database, job_id) == []
    assert visited(database, job_id) == whole
    database.close()
    assert killed == 40


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_g1_a_thousand_kills_over_ten_thousand_trials(any_bench: Bench, tmp_path: Path) -> None:
    """Jobs of 500 short trials one after the other, fifty kills in each; what an earlier run did counts."""
    changes = {**ONE_RUNG, "budget": {"trials": 500}}
    found = {"kills": 0, "trials": 0, "faults": 0, "seconds": 0} | recorded("G1", any_bench.engine)
    while found["kills"] < 1000 or found["trials"] < 10_000:
        began, folder = time.monotonic(), tmp_path / str(found["trials"])
        folder.mkdir()
        kills, job_id, chronicle = killed_coordinators(any_bench, folder, 50, changes, 0.0, (0.3, 1.0))
        database = any_bench.open()
        faults = chronicle.faults(database, job_id)
        database.close()
        found["kills"] += kills
        found["trials"] += 500
        found["faults"] += len(faults)
        found["seconds"] += round(time.monotonic() - began)
        record("G1", any_bench.engine, **found)
        assert faults == []
    assert found["faults"] == 0


def interrupted_run(bench: Bench, cut: int, changes: dict[str, Any]) -> list[Visit]:
    """The job is left after `cut` pieces of work and taken up by a new coordinator."""
    plan = bench.plan(**changes)
    database = bench.open()
    job_id = bench.create(plan, database)
    count = 0

    def leave(work: Work) -> None:
        nonlocal count
        count += 1
        if count == cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.work(job_id, plan, database=database, pause=leave)
    with database.read() as session:
        left = jobs.get(session, job_id)
    assert (left.state, left.reason, left.lease_owner) == ("paused", "user", None)
    bench.work(job_id, plan, database=database)
    assert check(database) == []
    found = visited(database, job_id)
    database.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cut"), [("surrogate", 3), ("surrogate", 17), ("nsga2", 9), ("random", 9)])
def test_g3_f05_an_interrupted_job_visits_what_an_uninterrupted_one_visits(
    any_bench: Bench, tmp_path: Path, kind: str, cut: int
) -> None:
    changes = {**TWO_RUNGS, "strategy": {"kind": kind}}
    assert interrupted_run(any_bench, cut, changes) == whole_run(any_bench, tmp_path, changes)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_g3_twenty_random_cuts(bench: Bench, tmp_path: Path) -> None:
    changes = {"training": {"steps": 8, "rungs": 2}, "budget": {"trials": 24}}
    whole = whole_run(bench, tmp_path, changes)
    cuts = sorted(random.Random(1).sample(range(2, 100), 20))
    for cut in cuts:
        folder = tmp_path / str(cut)
        folder.mkdir()
        assert interrupted_run(type(bench)(folder), cut, changes) == whole
    record("G3", "sqlite", cuts=cuts, equal=len(cuts))


def with_faults(bench: Bench, trials_: int, rate: float, seed: int = 0) -> tuple[Database, str, Faults]:
    """The pauses before a repetition are short: what is repeated is tried, not for how long."""
    plan, database = bench.plan(**ONE_RUNG, budget={"trials": trials_}), bench.open()
    job_id = bench.create(plan, database)
    with database.write() as session:
        job = jobs.take(session, job_id, owner_name(), 15.0, time.time())
    faults = Faults(rate, seed)
    with (
        pytest.MonkeyPatch.context() as patch,
        faults.everywhere(),
        FormulaExecutor(plan, database.data_dir / "training") as executor,
    ):
        patch.setattr("search.storage.database._PAUSES_S", (0.001, 0.002, 0.005))
        Coordinator(database, job, plan, executor).run()
    return database, job_id, faults


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_g6_f03_f26_a_job_completes_though_one_repository_call_in_twenty_fails(
    any_bench: Bench, tmp_path: Path
) -> None:
    """The stated size: 500 trials."""
    whole = whole_run(any_bench, tmp_path, {**ONE_RUNG, "budget": {"trials": 500}})
    database, job_id, faults = with_faults(any_bench, 500, 0.05)
    assert result(database, job_id).job.state == "completed"
    assert Chronicle(tmp_path).faults(database, job_id) == []
    assert visited(database, job_id) == whole
    assert faults.met["commit_then_raise"] > 100
    database.close()
    record("G6", any_bench.engine, trials=500, faults_met=dict(faults.met), faults_found=0)


def test_the_fault_wrapper_knows_every_repository_function() -> None:
    names = {f"{module.__name__.rpartition('.')[2]}.{name}" for module, name in functions()}
    assert {"jobs.claim", "trials.count_trial", "measurements.put", "logs.put", "artefacts.create"} <= names
    assert len(names) > 60


def writers(bench: Bench, processes: int, seconds: float) -> list[float]:
    """Seconds of every write of `processes` processes that write to one job as fast as they can."""
    plan, database = bench.plan(**ONE_RUNG), bench.open()
    job_id = bench.create(plan, database)
    database.close()
    took: Any = FORK.Queue()

    def write(name: int) -> None:
        own = bench.open()
        end = time.monotonic() + seconds
        found: list[float] = []
        while (began := time.monotonic()) < end:
            with own.write() as session:
                events.append(session, job_id, "warning", None, {"writer": name, "n": len(found)})
            found.append(time.monotonic() - began)
        took.put(found)
        own.close()

    members = [FORK.Process(target=write, args=(name,)) for name in range(processes)]
    for member in members:
        member.start()
    all_ = [took.get(timeout=seconds + 120) for _ in members]
    for member in members:
        member.join()
        assert member.exitcode == 0
    database = bench.open()
    with database.read() as session:
        assert events.last_seq(session, job_id) == 1 + sum(map(len, all_))
    assert check(database) == []
    database.close()
    return sorted(second for one in all_ for second in one)


@pytest.mark.slow
def test_g8_eight_processes_write_and_none_sees_a_lock(any_bench: Bench) -> None:
    assert writers(any_bench, 8, 10.0)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_g8_a_minute(any_bench: Bench) -> None:
    took = writers(any_bench, 8, 60.0)
    p99 = took[int(0.99 * len(took))]
    record(
        "G8", any_bench.engine, processes=8, seconds=60, writes=len(took), locked=0,
        median_s=statistics.median(took), p99_s=p99, longest_s=took[-1],
    )  # fmt: skip
    assert p99 <= 1.0


def freeze_and_claim(pid: int, bench: Bench) -> JobRecord:
    """Lets a coordinator stand still past its lease and takes its job. One that stands still in a write
    transaction holds up every writer of SQLite: then it goes on for a moment and is stopped again."""
    hasty = Database.open(bench.url, patience_s=0.2)
    job = None
    while job is None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.4)
        with suppress(UnavailableError), hasty.write() as session:
            job = jobs.claim(session, owner_name(), 15.0, time.time())
        if job is None:
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.01)
    hasty.close()
    return job


@pytest.mark.slow
def test_f07_f09_of_two_coordinators_one_holds_the_job_and_the_others_writes_are_refused(
    any_bench: Bench,
) -> None:
    """The first stands still past its lease (SIGSTOP), the second takes over, the first goes on (SIGCONT)."""
    plan = any_bench.plan(**ONE_RUNG, budget={"trials": 6})
    database = any_bench.open()
    job_id = any_bench.create(plan, database)

    def first() -> None:
        own = any_bench.open()
        with own.write() as session:
            job = jobs.take(session, job_id, "frozen:1:1", 0.3, time.time())
        executor = FormulaExecutor(plan, own.data_dir / "training", lambda work: time.sleep(0.05))
        try:
            Coordinator(own, job, plan, executor, lease_s=0.3).run()
        except Exception as error:
            os._exit(3 if "refused" in str(error) or "taken over" in str(error) else 4)
        os._exit(0)

    database.close()
    frozen = FORK.Process(target=first)
    frozen.start()
    assert frozen.pid is not None
    database = any_bench.open()
    while not visited(database, job_id):
        time.sleep(0.01)
    job = freeze_and_claim(frozen.pid, any_bench)
    assert job.fence == 2
    executor = FormulaExecutor(plan, database.data_dir / "training")
    coordinator = Coordinator(database, job, plan, executor)
    os.kill(frozen.pid, signal.SIGCONT)
    coordinator.run()
    frozen.join(30)
    assert frozen.exitcode == 3
    assert result(database, job_id).job.state == "completed"
    assert check(database) == []
    database.close()
