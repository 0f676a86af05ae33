"""Work that is lost, poisonous, endless or without room, workers that vanish: what the job says and does."""

import errno
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from search.clock import Clock
from search.coordinator import Coordinator
from search.crew import Crew
from search.plan import JobPlan
from search.records import EventRecord, JobRecord, TrialRecord
from search.running import create_job, owner_name, result
from search.service import UNAVAILABLE_SINCE, Service
from search.storage import events, jobs, logs, trials
from search.storage.check import check
from search.storage.database import Database, DiskFullError
from search.too_large import is_too_large, sizes_of
from search.workers import stages
from search.workers.deadline import Overdue, deadline
from search.workers.inline import InlineExecutor
from search.workers.stages import outcome_of
from search.workers.work import LogLine, Outcome, Work
from space.architecture import parse_architecture
from space.costs import costs
from space.errors import UnavailableError

from .conftest import FormulaExecutor

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

SMALLER: dict[str, Any] = {
    "budget": {"trials": 4},
    "training": {"steps": 8, "rungs": 1},
    "finalists": {"count": 0},
    "screen": {"candidates": 1},
}


class FaultyExecutor(FormulaExecutor):
    """Answers what `fault` says in place of the formula, as often as it says something."""

    def __init__(self, plan: JobPlan, folder: Path, fault: Callable[[Work], str | None]) -> None:
        super().__init__(plan, folder)
        self._fault = fault
        self.has_workers = True

    def poll(self, timeout_s: float) -> Sequence[Outcome]:
        if self._queue and (reason := self._fault(self._queue[0])):
            return [Outcome(self._queue.popleft().key, reason=reason, message="as arranged")]
        return super().poll(timeout_s)


def start(bench: Bench, plan: JobPlan, database: Database) -> JobRecord:
    job_id = bench.create(plan, database)
    with database.write() as session:
        return jobs.take(session, job_id, owner_name(), 15.0, time.time())


def work(
    bench: Bench, fault: Callable[[Work], str | None], *, changes: dict[str, Any] | None = None,
    on_tick: Callable[[Coordinator], None] | None = None, clock: Clock | None = None,
) -> tuple[Database, JobRecord, list[TrialRecord]]:  # fmt: skip
    plan, database = bench.plan(**{**SMALLER, **(changes or {})}), bench.open()
    job = start(bench, plan, database)
    executor = FaultyExecutor(plan, database.data_dir / "training", fault)
    Coordinator(database, job, plan, executor, on_tick=on_tick, clock=clock).run()
    assert check(database) == []
    with database.read() as session:
        return database, jobs.get(session, job.id), trials.all_trials(session, job.id)


def states(database: Database, job_id: str, trial: int) -> list[tuple[str, int]]:
    with database.read() as session:
        found = events.after(session, job_id)
    return [
        (e.data["state"], e.data["attempt"]) for e in found if e.kind == "trial.state" and e.trial == trial
    ]


class Once:
    """Says `reason` for the first `times` pieces of work of a stage (with a text in their key)."""

    def __init__(self, reason: str, stage: str = "train", times: int = 1) -> None:
        self.left, self.reason, self.stage = times, reason, stage
        self.key: str | None = None

    def __call__(self, work: Work) -> str | None:
        if work.stage != self.stage or self.key not in (None, work.key) or not self.left:
            return None
        self.left -= 1
        self.key = work.key
        return self.reason


def test_g2_f01_lost_work_waits_again_with_one_more_attempt_and_counts_once(any_bench: Bench) -> None:
    lost = Once("worker_lost")
    database, job, rows = work(any_bench, lost)
    assert lost.key is not None
    (hit,) = [row for row in rows if row.attempt]
    assert lost.key.split("/")[1] == hit.training_id
    assert (hit.state, hit.attempt) == ("completed", 1)
    path = states(database, job.id, hit.number)
    assert path[:3] == [("running", 0), ("waiting", 1), ("running", 1)]
    assert [state for state, _ in path].count("completed") == 1
    database.close()


def test_f12_poison_ends_its_trial_and_is_remembered_by_the_next_coordinator(bench: Bench) -> None:
    """Two workers die with it under one coordinator, the third under the next."""
    plan, database = bench.plan(**SMALLER), bench.open()
    job = start(bench, plan, database)
    lost = Once("worker_lost", times=3)

    def leave(coordinator: Coordinator) -> None:
        if lost.left == 1 and coordinator.ledger.job.fence == job.fence:
            raise KeyboardInterrupt

    executor = FaultyExecutor(plan, database.data_dir / "training", lost)
    with pytest.raises(KeyboardInterrupt):
        Coordinator(database, job, plan, executor, on_tick=leave).run()
    with database.write() as session:
        again = jobs.take(session, job.id, owner_name(), 15.0, time.time())
    executor = FaultyExecutor(plan, database.data_dir / "training", lost)
    Coordinator(database, again, plan, executor).run()
    with database.read() as session:
        rows = trials.all_trials(session, job.id)
    assert [row.reason for row in rows if row.state == "failed"] == ["poison"]
    assert lost.left == 0
    assert check(database) == []


def test_f12_work_that_ends_the_whole_process_is_poison_too(bench: Bench) -> None:
    """In one process the coordinator dies with the work: attempts tell."""
    plan, database = bench.plan(**SMALLER), bench.open()
    job = start(bench, plan, database)
    executor = FaultyExecutor(plan, database.data_dir / "training", lambda work: None)
    executor.is_in_process = True
    coordinator = Coordinator(database, job, plan, executor)
    coordinator.search.prepare()
    for _ in range(3):
        coordinator.ledger.start(-1)
        with database.write() as session:
            held = jobs.take(session, job.id, owner_name(), 15.0, time.time(), force=True)
        coordinator = Coordinator(database, held, plan, executor)
    assert (coordinator.ledger.trials[-1].state, coordinator.ledger.trials[-1].reason) == ("failed", "poison")


def test_f13_work_out_of_memory_is_not_repeated_and_nothing_as_large_is_tried(bench: Bench) -> None:
    def fault(work: Work) -> str | None:
        text = work.payload["architecture"] if work.stage == "train" else None
        return "out_of_memory" if text and costs(parse_architecture(text)).params > 40_000 else None

    changes = {"budget": {"trials": 16}, "strategy": {"kind": "random"}}
    database, job, rows = work(bench, fault, changes=changes)
    assert (job.state, job.reason) == ("completed", "budget_reached")
    failed = [row for row in rows if row.state == "failed"]
    assert failed
    assert {(row.reason, row.attempt) for row in failed} == {("out_of_memory", 0)}
    with database.read() as session:
        ends = {event.trial: event.seq for event in events.after(session, job.id) if is_failure(event)}
    for row in rows:
        known = [sizes_of(one.values) for one in failed if ends[one.number] <= row.asked_after]
        assert row.number < 0 or not is_too_large(sizes_of(row.values), known)
    assert job.counters["infeasible"] > 0


def is_failure(event: EventRecord) -> bool:
    return event.kind == "trial.state" and event.data["state"] == "failed"


def test_f29_a_full_disk_pauses_the_job_which_goes_on_when_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = {"is_there": False}
    monkeypatch.setattr("search.coordinator.has_room", lambda folder: room["is_there"])
    seen: list[tuple[str, str | None]] = []

    class Hasty(Clock):
        ticks = 0.0

        def time(self) -> float:
            Hasty.ticks += 1
            return super().time() + Hasty.ticks

    def look(coordinator: Coordinator) -> None:
        job = coordinator.ledger.job
        if not seen or seen[-1] != (job.state, job.reason):
            seen.append((job.state, job.reason))
        if job.state == "paused":
            room["is_there"] = True

    full = Once("disk_full")
    _, job, rows = work(bench, full, on_tick=look, clock=Hasty())
    assert seen[:3] == [("running", None), ("paused", "disk_full"), ("running", None)]
    assert job.reason == "budget_reached"
    assert all(row.attempt == 0 and row.state == "completed" for row in rows)


def test_f29_a_checkpoint_without_room_is_no_fault_of_its_trial(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(payload: Any, bench: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stages, "train_to", full)
    outcome = outcome_of(Work("k", "train", {}, 1.0), None)  # type: ignore[arg-type]
    assert outcome.reason == "disk_full"
    assert "No space left" in outcome.message


def test_f15_an_allocation_that_torch_is_refused_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare RuntimeError, whose words differ between systems: this one's are asked for."""

    def large(payload: Any, bench: Any) -> Any:
        return torch.empty(2**60)

    monkeypatch.setattr(stages, "measure", large)
    outcome = outcome_of(Work("k", "measure", {}, 1.0), None)  # type: ignore[arg-type]
    assert outcome.reason == "out_of_memory"
    assert "memory" in outcome.message


def test_f64_without_workers_the_job_says_so_and_since_when(bench: Bench) -> None:
    reasons: list[str | None] = []

    def look(coordinator: Coordinator) -> None:
        executor = coordinator.executor
        assert isinstance(executor, FaultyExecutor)
        reasons.append(coordinator.ledger.job.reason)
        executor.has_workers = len(reasons) != 2
        if reasons[-1] == "waiting_for_workers":
            assert "no worker since 20" in str(coordinator.ledger.job.message)

    _, job, _ = work(bench, lambda work: None, on_tick=look)
    assert reasons[:5] == [None, None, "waiting_for_workers", None, None]
    assert (job.state, job.reason) == ("completed", "budget_reached")


def test_f17_endless_work_in_this_process_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(payload: Any, bench: Any) -> Any:
        while True:
            time.sleep(0.001)

    monkeypatch.setattr(stages, "train_to", endless)
    executor = InlineExecutor(None)  # type: ignore[arg-type]
    executor.submit(Work("k", "train", {}, 0.05))
    (outcome,) = executor.poll(0.0)
    assert (outcome.reason, outcome.key) == ("timeout", "k")
    with deadline(10.0):
        pass
    time.sleep(0)  # nothing arrives late
    with pytest.raises(Overdue), deadline(0.01):
        wait_until(lambda: False)


@pytest.mark.slow
def test_a_search_that_no_longer_grows_stops_where_the_job_asks_for_it(bench: Bench) -> None:
    changes = {"budget": {"trials": 400, "least_gain": 0.99}, "strategy": {"kind": "random"}}
    _, job, rows = work(bench, lambda work: None, changes=changes)
    assert (job.state, job.reason) == ("completed", "stagnated")
    assert 30 <= sum(row.number >= 0 for row in rows) < 400


def test_what_a_worker_logs_is_found_under_its_trial(bench: Bench) -> None:
    class Talking(FormulaExecutor):
        def poll(self, timeout_s: float) -> Sequence[Outcome]:
            said = (LogLine(1.0, "info", "hello \x00 there"),)
            return [Outcome(one.key, result=one.result, log=said) for one in super().poll(timeout_s)]

    plan, database = bench.plan(**SMALLER), bench.open()
    job = start(bench, plan, database)
    Coordinator(database, job, plan, Talking(plan, database.data_dir / "training")).run()
    with database.read() as session:
        found = logs.of_trial(session, job.id, 0)
    assert found[0].work.startswith("train/")
    assert found[0].lines == [{"at": 1.0, "level": "info", "text": "hello  there"}]


def test_a_workers_lines_carry_stage_host_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "train_to", lambda payload, bench: {"step": 1})
    lines = [line.text for line in outcome_of(Work("k", "train", {}, 1.0), None).log]  # type: ignore[arg-type]
    assert lines[0].startswith("work began ")  # a Ray in this process adds a field of its own
    assert " stage=train host=" in lines[0]
    assert "how=done" in lines[-1]


# -- a service -------------------------------------------------------------------------------------------


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def state_of(database: Database, job_id: str) -> tuple[str, str | None]:
    job = result(database, job_id).job
    return job.state, job.reason


def test_f24_a_job_whose_executor_is_away_waits_in_the_queue_and_fails_after_its_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Crew, plan: JobPlan, job: JobRecord) -> Any:
        raise UnavailableError("Ray at '10.0.0.1:6379' does not answer")

    monkeypatch.setattr(Crew, "executor", away)
    plan, database = bench.plan(**SMALLER), bench.open()
    job_id = bench.create(plan, database)
    service = Service(database)
    service.start()
    try:
        wait_until(lambda: state_of(database, job_id) == ("queued", "executor_unavailable"))
    finally:
        service.stop()
    job = result(database, job_id).job
    assert "does not answer" in str(job.message)
    assert job.context[UNAVAILABLE_SINCE] <= time.time()
    service = Service(database, give_up_s=0.0)
    service.start()
    try:
        wait_until(lambda: state_of(database, job_id) == ("failed", "executor_unavailable"))
    finally:
        service.stop()
    assert check(database) == []


def test_f29_a_database_without_room_pauses_the_job_and_the_service_wakes_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, database = bench.plan(**SMALLER), bench.open()
    full = threading.Event()
    full.set()
    monkeypatch.setattr("search.service.has_room", lambda folder: not full.is_set())
    monkeypatch.setattr(
        Crew, "executor", lambda self, plan, job: FormulaExecutor(plan, database.data_dir / "training")
    )
    count = trials.count_trial

    def counting(*args: Any, **more: Any) -> Any:
        if full.is_set():
            raise DiskFullError("no room")
        return count(*args, **more)

    monkeypatch.setattr(trials, "count_trial", counting)
    job_id = bench.create(plan, database)
    service = Service(database)
    service.start()
    try:
        wait_until(lambda: state_of(database, job_id) == ("paused", "disk_full"))
        full.clear()
        wait_until(lambda: state_of(database, job_id)[0] == "completed")
    finally:
        service.stop()
    assert check(database) == []


def test_f18_a_service_that_stops_gives_its_jobs_back_without_using_up_attempts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ends in this."""
    plan, database = bench.plan(**SMALLER), bench.open()
    begun = threading.Event()

    def pause(work: Work) -> None:
        begun.set()
        time.sleep(0.02)

    monkeypatch.setattr(
        Crew, "executor", lambda self, plan, job: FormulaExecutor(plan, database.data_dir / "training", pause)
    )
    job_id = bench.create(plan, database)
    service = Service(database)
    service.start()
    assert begun.wait(60)
    service.stop()
    found = result(database, job_id).job
    assert (found.state, found.lease_owner) == ("queued", None)
    with database.read() as session:
        assert all(row.attempt == 0 for row in trials.all_trials(session, job_id))


def test_f62_a_tenant_with_one_job_is_coordinated_beside_one_that_came_first_with_many(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, database = bench.plan(**SMALLER), bench.open()
    running: list[str] = []
    go_on = threading.Event()

    def pause(work: Work) -> None:
        go_on.wait(60)

    def executor(self: Crew, plan: JobPlan, job: JobRecord) -> FormulaExecutor:
        running.append(job.tenant)
        return FormulaExecutor(plan, database.data_dir / "training", pause)

    monkeypatch.setattr(Crew, "executor", executor)
    for tenant in ("many", "many", "many"):
        create_job(database, plan, tenant=tenant)
    service = Service(database, max_jobs=2)
    service.start()
    try:
        wait_until(lambda: running == ["many", "many"])
        create_job(database, plan, tenant="one")  # every place is taken, but none by this tenant
        wait_until(lambda: running == ["many", "many", "one"])
    finally:
        go_on.set()
        service.stop()


def test_a_slow_start_of_the_workers_does_not_cost_the_lease(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, database = bench.plan(**SMALLER), bench.open()

    def slow(self: Crew, plan: JobPlan, job: JobRecord) -> FormulaExecutor:
        time.sleep(3.0)
        return FormulaExecutor(plan, database.data_dir / "training")

    monkeypatch.setattr("search.service.LEASE_S", 1.5)
    monkeypatch.setattr(Crew, "executor", slow)
    job_id = bench.create(plan, database)
    service = Service(database)
    service.start()
    try:
        wait_until(lambda: state_of(database, job_id)[0] == "completed")
    finally:
        service.stop()
    assert result(database, job_id).job.fence == 1, "nobody had to claim it again"
