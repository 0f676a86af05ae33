"""Gate G2 of faults.md in what can be counted: a lost worker's trial runs again, a dead coordinator's job is
taken at the end of its lease; neither loses nor doubles anything. `benchmarks.gates_engine` has the times.
"""

import multiprocessing
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from search.clock import Clock
from search.coordinator import LEASE_S, Coordinator
from search.crew import Crew
from search.plan import JobPlan
from search.records import JobRecord
from search.running import owner_name, result
from search.service import Service
from search.storage import events, jobs, trials
from search.storage.database import Database
from search.workers.ray import RayExecutor
from search.workers.work import Outcome, Work

from .conftest import FormulaExecutor
from .fault_kit import Chronicle

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

pytestmark = pytest.mark.slow

FORK = multiprocessing.get_context("fork")  # from a process that has imported everything
SHORT: dict[str, Any] = {
    "training": {"steps": 8, "rungs": 2}, "screen": {"candidates": 1}, "finalists": {"count": 0},
    "strategy": {"kind": "random"}, "budget": {"trials": 4},
}  # fmt: skip
AGAIN = [("running", 0), ("waiting", 1), ("running", 1)]


class StillClock(Clock):
    """Shows the time it is set to."""

    def __init__(self, now: float) -> None:
        self.now_s = now

    def time(self) -> float:
        return self.now_s


def states(database: Database, job_id: str) -> dict[int, list[tuple[str, int]]]:
    """State and attempt of every trial, one after the other, as the job's events tell them."""
    found: dict[int, list[tuple[str, int]]] = {}
    with database.read() as session:
        told = events.after(session, job_id)
    for one in told:
        if one.kind == "trial.state" and one.trial is not None:
            found.setdefault(one.trial, []).append((one.data["state"], one.data["attempt"]))
    return found


def assert_one_more_attempt(database: Database, job_id: str) -> None:
    """Of exactly one trial: it ran, waited, ran again and completed once; the others know nothing of it."""
    assert result(database, job_id).job.state == "completed"
    with database.read() as session:
        attempts = {row.number: row.attempt for row in trials.all_trials(session, job_id)}
    (lost,) = [number for number, attempt in attempts.items() if attempt]
    assert attempts[lost] == 1
    moves = states(database, job_id)
    assert moves[lost][:3] == AGAIN
    assert [state for state, _ in moves[lost]].count("completed") == 1
    assert {attempt for number, path in moves.items() if number != lost for _, attempt in path} == {0}


def run_or_stand_still(work: Work, given: tuple[JobPlan, Path, Path]) -> Outcome:
    """Whoever trains first says which process it is, and goes no further."""
    plan, training, told = given
    Chronicle(told).write("begun", work=f"{work.key}/{work.payload.get('until', '')}", pid=os.getpid())
    if work.stage == "train":
        with suppress(FileExistsError), (told / "first").open("x") as file:
            file.write(str(os.getpid()))
            file.close()
            time.sleep(3600)
    with FormulaExecutor(plan, training) as executor:
        executor.submit(work)
        (outcome,) = executor.poll(0.0)
    return outcome


@pytest.mark.xdist_group("ray")
def test_g2_f01_a_training_whose_worker_is_killed_runs_again_once(bench: Bench, tmp_path: Path) -> None:
    """SIGKILL of a worker of Ray in the middle of its work. What is stored of a loss is tried on both engines
    in test_faults_work.py."""
    plan, database = bench.plan(**SHORT), bench.open()
    job_id = bench.create(plan, database)
    with database.write() as session:
        job = jobs.take(session, job_id, owner_name(), LEASE_S, database.now())
    first, killed = tmp_path / "first", list[int]()

    def kill(_: Coordinator) -> None:
        if not killed and first.exists() and (text := first.read_text()):
            killed.append(int(text))
            os.kill(killed[0], signal.SIGKILL)

    given = plan, database.data_dir / "training", tmp_path
    with RayExecutor(given, num_slots=1, run=run_or_stand_still) as executor:
        Coordinator(database, job, plan, executor, on_tick=kill).run()
    assert_one_more_attempt(database, job_id)
    chronicle = Chronicle(tmp_path)
    begun = [(one["work"], one["pid"]) for one in chronicle.read() if one["what"] == "begun"]
    times = Counter(work for work, _ in begun)
    (again,) = [work for work, count in times.items() if count > 1]
    assert times[again] == 2
    earlier, later = sorted((pid for work, pid in begun if work == again), key=lambda pid: pid != killed[0])
    assert earlier == killed[0] != later
    assert chronicle.faults(database, job_id) == []
    database.close()


def test_g2_f19_a_dead_coordinators_job_is_taken_when_its_lease_ends_and_not_before(
    any_bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the middle of a training, by a clock that stands still and is then set."""
    plan, database = any_bench.plan(**SHORT), any_bench.open()
    job_id, died = any_bench.create(plan, database), database.now()
    database.close()
    begun = tmp_path / "begun"

    def stand_still(work: Work) -> None:
        if work.stage == "train":
            begun.touch()
            time.sleep(3600)

    def coordinate() -> None:
        own, clock = any_bench.open(), StillClock(died)
        with own.write() as session:
            job = jobs.take(session, job_id, "another machine:1:1", LEASE_S, clock.time())
        executor = FormulaExecutor(plan, own.data_dir / "training", stand_still)
        Coordinator(own, job, plan, executor, clock=clock).run()

    process = FORK.Process(target=coordinate)
    process.start()
    while not begun.exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()

    def executor_of(self: Crew, plan: JobPlan, job: JobRecord) -> FormulaExecutor:
        return FormulaExecutor(plan, database.data_dir / "training")

    monkeypatch.setattr(Crew, "executor", executor_of)
    clock = StillClock(died)
    service = Service(database, clock=clock)
    for late_s, takes_it in ((0.0, False), (LEASE_S - 0.001, False), (LEASE_S, True)):
        clock.now_s = died + late_s
        assert service._claim() == takes_it, late_s
    ((_, thread),) = service._running.values()
    thread.join()
    assert result(database, job_id).job.fence == 2
    assert_one_more_attempt(database, job_id)
    assert Chronicle(tmp_path).faults(database, job_id) == []
    database.close()
