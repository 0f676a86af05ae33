"""Jobs off the beaten track: other objectives and limits, work that fails, pauses in a service."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from search.clock import Clock
from search.coordinator import Coordinator
from search.crew import Crew
from search.job import parse_job
from search.plan import JobPlan, plan_job
from search.proposer import Candidates, Proposer, SpaceExhausted
from search.records import JobRecord, TrialRecord
from search.running import owner_name, result
from search.service import Service
from search.storage import jobs, trials
from search.storage.check import check
from search.storage.database import Database
from search.storage.models import Job
from search.workers.ray import RayExecutor
from search.workers.stages import Bench as Tools
from search.workers.work import Outcome, Work
from space.errors import InvalidInputError

from .conftest import FormulaExecutor, unit

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

pytestmark = pytest.mark.slow  # whole jobs

Failure = Callable[[Work], str | None]


class OddExecutor(FormulaExecutor):
    """Several slots, answers newest first, every metric of the task, and failures where `fails` names one."""

    num_slots = 3

    def __init__(self, plan: JobPlan, folder: Path, fails: Failure = lambda work: None) -> None:
        super().__init__(plan, folder)
        self._fails = fails

    def poll(self, timeout_s: float) -> Sequence[Outcome]:
        if self._queue:
            self._queue.rotate(1)
        if self._queue and (reason := self._fails(self._queue[0])):
            return [Outcome(self._queue.popleft().key, reason=reason, message="as arranged")]
        return [self._with_all_metrics(outcome) for outcome in super().poll(timeout_s)]

    def _with_all_metrics(self, outcome: Outcome) -> Outcome:
        """The formulas know `loss`; classes have an `error` too."""
        metrics = (outcome.result or {}).get("metrics", {})
        for key in [key for key in metrics if key.endswith("loss")]:
            value = metrics[key]["value"] / 10
            metrics[key.replace("loss", "error")] = {**metrics[key], "quantity": "error", "value": value}
        return outcome


def work(
    bench: Bench, plan: JobPlan, fails: Failure = lambda work: None
) -> tuple[Database, JobRecord, list[TrialRecord]]:
    """Runs a job of this plan to its end."""
    database = bench.open()
    job_id = bench.create(plan, database)
    with database.write() as session:
        job = jobs.take(session, job_id, owner_name(), 15.0, time.time())
    with OddExecutor(plan, database.data_dir / "training", fails) as executor:
        Coordinator(database, job, plan, executor).run()
    assert check(database) == []
    with database.read() as session:
        return database, jobs.get(session, job_id), trials.all_trials(session, job_id)


@pytest.mark.parametrize(
    "changes",
    [
        {"objectives": ["quality", "latency_p95_s"]},
        {"objectives": ["loss", "latency_p50_s", "latency_p95_s"]},
        {"objectives": ["quality", "params"]},
        {"objectives": ["loss", "latency", "macs", "memory"]},
        {"training": {"steps": 8, "rungs": 1}},
        {"task": {"kind": "image", "dataset": "digits"}, "constraints": {"params": 1e6, "memory": 4e6}},
        {"target": {"runtime": "eager"}},
    ],
)
def test_other_jobs_end_with_a_front_and_indicators(bench: Bench, changes: dict[str, Any]) -> None:
    database, job, _ = work(bench, bench.plan(**changes))
    assert (job.state, job.reason, job.stage) == ("completed", "budget_reached", "final")
    front = result(database, job.id).front
    assert front
    for row in front:
        assert all(
            row.kinds[key] == "measured" for key in job.objectives if key.startswith(("latency", "loss"))
        )
    assert job.indicators["hypervolume"] > 0


def test_without_finalists_a_job_ends_in_the_search_stage(bench: Bench) -> None:
    _, job, _ = work(bench, bench.plan(finalists={"count": 0}))
    assert (job.state, job.stage) == ("completed", "search")
    assert job.indicators["stage"] == "search"


def test_a_limit_on_quality_is_judged_by_the_last_rung(bench: Bench) -> None:
    """No trial keeps it after the first rung: every formula loss there is more than 0.25 worse."""
    _, job, rows = work(bench, bench.plan(constraints={"bits_per_byte": 2.2}))
    kept = [row for row in rows if row.state == "completed" and row.values["bits_per_byte"] <= 2.2]
    assert kept
    assert not any("infeasible" in row.flags for row in kept if row.final is None)
    assert job.indicators["hypervolume"] is not None, "the scale needs no feasible reference"


def test_a_prediction_over_the_limit_does_not_outlive_the_measurement(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first trials are predicted at more than 0.4 ms, and measured at less than 0.2 ms."""
    measure = FormulaExecutor._measure

    def fast(self: FormulaExecutor, payload: Mapping[str, Any]) -> dict[str, Any]:
        found = measure(self, payload)
        if payload["latency"]:
            seconds = 1e-4 * (1 + unit(payload["architecture"]))
            found["metrics"]["latency_s"] = self._value("latency_s", seconds)
        return found

    monkeypatch.setattr(FormulaExecutor, "_measure", fast)
    _, job, rows = work(bench, bench.plan(constraints={"latency": 4e-4}))
    assert [row.label for row in rows if row.kinds.get("latency_s") == "measured" and row.flags] == []
    assert job.stage == "final"


def test_a_finalist_over_the_limit_leaves_the_front(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured at 0.1 ms in the search and at 0.5 ms as finalists."""
    measure = FormulaExecutor._measure

    def slow_at_last(self: FormulaExecutor, payload: Mapping[str, Any]) -> dict[str, Any]:
        found = measure(self, payload)
        if payload["latency"]:
            found["metrics"]["latency_s"] = self._value(
                "latency_s", 5e-4 if "test" in payload["parts"] else 1e-4
            )
        return found

    monkeypatch.setattr(FormulaExecutor, "_measure", slow_at_last)
    database, job, rows = work(bench, bench.plan(constraints={"latency": 4e-4}))
    finalists = [row for row in rows if row.number >= 0 and row.final]
    assert finalists
    assert all("infeasible" in row.flags and not row.on_front for row in finalists)
    assert all(row.effective["latency_s"] <= 4e-4 for row in result(database, job.id).front)


def test_quality_of_the_fp32_form_is_marked_until_the_formats_are_measured(bench: Bench) -> None:
    domains = {"d_model": [32, 48], "num_layers": [1, 2], "number_format": ["int8_dynamic"]}
    training, objectives = {"steps": 8, "rungs": 1}, ["quality", "params"]  # dominated whatever the latency
    plan = bench.plan(space={"set": domains}, training=training, objectives=objectives)
    _, _, rows = work(bench, plan)
    marked = {row.number for row in rows if "unvalidated_accuracy" in row.flags}
    assert marked == {
        row.number
        for row in rows
        if row.architecture_id != row.training_id and row.kinds["latency_s"] == "predicted"
    }
    assert marked
    assert not any(row.on_front for row in rows if row.number in marked)


def test_names_a_task_does_not_have_are_refused_before_anything_is_stored() -> None:
    for data, words in (
        ({"constraints": {"error": 0.1}}, ["constraints", "error", "bits_per_byte"]),
        ({"target": {"length": 4096}}, ["target.length=4096", "at most 128"]),
    ):
        with pytest.raises(InvalidInputError) as caught:
            plan_job(parse_job(data))
        assert all(word in caught.value.message for word in words)


def test_an_enqueued_architecture_must_fit_the_task_and_the_target(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    fitting = bench.plan().references[0].architecture
    path.write_text(fitting.canonical_json)
    assert bench.plan(enqueue=[str(path)]).enqueued == (fitting,)
    with pytest.raises(InvalidInputError, match="needs a vision"):
        plan_job(parse_job({"task": {"kind": "image", "dataset": "digits"}, "enqueue": [str(path)]}))
    path.write_text(fitting.with_number_format("bf16").canonical_json)
    with pytest.raises(InvalidInputError, match="bf16"):
        plan_job(parse_job({"enqueue": [str(path)]}))


def test_a_value_of_one_seed_has_no_interval_of_another(bench: Bench) -> None:
    def second_seed(work: Work) -> str | None:
        is_final = work.stage == "train" and work.payload["plan"]["steps"] == 12
        return "diverged" if is_final and work.payload["seed"] == 1 else None

    _, job, rows = work(bench, bench.plan(), second_seed)
    finalists = [row for row in rows if row.final]
    assert job.stage == "final"
    assert finalists
    for row in finalists:
        assert row.seeds == 1
        assert "bits_per_byte" not in row.effective_spread
        assert row.effective_spread["latency_s"].low < row.effective["latency_s"]


@pytest.mark.parametrize("stage", ["screen", "train", "measure"])
def test_a_stage_that_always_fails_ends_the_job(bench: Bench, stage: str) -> None:
    _, job, rows = work(bench, bench.plan(), lambda work: "internal" if work.stage == stage else None)
    assert job.state == "completed"
    assert all(row.state == "failed" for row in rows if row.number >= 0)


def test_workers_that_always_die_make_poison_and_an_end(bench: Bench) -> None:
    _, job, rows = work(bench, bench.plan(), lambda work: "worker_lost")
    assert job.state == "completed"
    assert {row.reason for row in rows} == {"poison"}


def test_a_number_drawn_again_from_an_exhausted_space_does_not_hang_the_search(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every candidate breaks the limit, and the second draw finds nothing while later numbers are open."""
    draw = Proposer.candidates

    def once(self: Proposer, number: int, *args: Any, round: int = 0, **more: Any) -> Candidates:
        if round:
            raise SpaceExhausted("nothing is left")
        return draw(self, number, *args, round=round, **more)

    monkeypatch.setattr(Proposer, "candidates", once)
    _, job, _ = work(bench, bench.plan(constraints={"latency": 1e-9}))
    assert (job.state, job.reason) == ("completed", "space_exhausted")


def test_an_interrupt_in_the_moment_a_job_ends_is_still_an_interrupt(bench: Bench) -> None:
    plan, database = bench.plan(), bench.open()
    job_id = bench.create(plan, database)

    def interrupt(coordinator: Coordinator) -> None:
        if coordinator.ledger.job.state == "completed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.work(job_id, plan, database=database, on_tick=interrupt)
    assert result(database, job_id).job.state == "completed"


def test_a_paused_job_does_not_hold_up_the_next_one_of_a_service(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "search.service")
    plan, database = bench.plan(), bench.open()
    first, second = bench.create(plan, database), bench.create(plan, database)
    monkeypatch.setattr(
        Crew, "executor",
        lambda self, plan, job: OddExecutor(plan, database.data_dir / "training"),
    )  # fmt: skip

    def wait_until(job_id: str, state: str) -> None:
        deadline = time.monotonic() + 30
        while result(database, job_id).job.state != state:
            assert time.monotonic() < deadline, result(database, job_id).job
            time.sleep(0.01)

    running = Service(database, ray="none")
    running.start()
    try:
        wait_until(first, "running")
        with database.write() as session:
            jobs.request(session, first, "pause")
        wait_until(second, "completed")
        assert result(database, first).job.state == "paused"
        with database.write() as session:
            jobs.request(session, first, "resume")
        wait_until(first, "completed")
    finally:
        running.stop()
    assert check(database) == []
    said = [(one.getMessage(), vars(one)["job_id"]) for one in caplog.records if one.name == "search.service"]
    assert said[0] == ("job begun", first)
    assert {("job left for a successor", first), ("job ended", first), ("job ended", second)} <= set(said)


def test_a_job_whose_data_have_changed_fails_and_is_not_taken_up_for_ever(bench: Bench) -> None:
    plan, database = bench.plan(), bench.open()
    job_id = bench.create(plan, database)
    with database.write() as session:
        row = session.scalars(select(Job).where(Job.id == job_id)).one()
        row.context = {**row.context, "data_digest": "0" * 64}
    service = Service(database, ray="none")
    assert service._claim()
    ((_, thread),) = service._running.values()
    thread.join()
    job = result(database, job_id).job
    assert (job.state, job.reason) == ("failed", "internal")
    assert "has changed since job" in str(job.message)
    assert check(database) == []


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_more_workers_than_cores_all_start(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan()
    tools = Tools(plan.data, plan.target, tmp_path / "training", tmp_path / "latency")
    num_slots = (os.cpu_count() or 1) + 1
    with RayExecutor(tools, num_slots=num_slots) as executor:
        assert len(set(executor.pids())) == num_slots


def test_a_block_nobody_can_time_fails_its_trial_and_not_the_job(bench: Bench) -> None:
    class SomeBlocksFail(OddExecutor):
        def _screen(self, payload: Mapping[str, Any]) -> dict[str, Any]:
            found = super()._screen(payload)
            for name, value in found["blocks"].items():
                if unit(name) < 0.4:
                    gone = {"value": None, "spread": None, "status": "error", "detail": {"reason": "timeout"}}
                    found["blocks"][name] = {**value, **gone}
            return found

    plan, database = bench.plan(budget={"trials": 10}, screen={"candidates": 1}), bench.open()
    job_id = bench.create(plan, database)
    with database.write() as session:
        job = jobs.take(session, job_id, owner_name(), 15.0, time.time())
    with SomeBlocksFail(plan, database.data_dir / "training") as executor:
        Coordinator(database, job, plan, executor).run()
    with database.read() as session:
        rows = trials.all_trials(session, job_id)
    failed = [row for row in rows if row.state == "failed"]
    assert failed
    assert all("a block could not be timed: timeout" in str(row.message) for row in failed)
    assert result(database, job_id).front
    assert check(database) == []


def test_a_candidate_that_brings_the_screen_down_costs_only_itself(bench: Bench) -> None:
    """Batches fail, candidates alone do not: no trial fails, every number is used."""
    _, job, rows = work(
        bench,
        bench.plan(screen={"candidates": 3}, budget={"trials": 12}),
        lambda work: (
            "internal" if work.stage == "screen" and len(work.payload["architectures"]) > 1 else None
        ),
    )
    assert job.reason == "budget_reached"
    assert {row.number for row in rows if row.number >= 0} == set(range(12))
    assert all(row.state != "failed" for row in rows)


def test_a_diverged_seed_costs_a_seed_and_not_the_finalist(bench: Bench) -> None:
    def first_seed_of_finalists(work: Work) -> str | None:
        final = work.stage == "train" and work.payload["plan"]["steps"] == 12
        return "diverged" if final and work.payload["seed"] == 1 else None

    _, job, rows = work(bench, bench.plan(), first_seed_of_finalists)
    finals = [row.final for row in rows if row.final]
    assert job.stage == "final"
    assert finals
    assert all(final.seeds == 1 and "latency_s" in final.values for final in finals)


def test_a_stop_among_the_finalists_keeps_what_they_have(bench: Bench) -> None:
    plan, database = bench.plan(finalists={"count": 3, "seeds": 3, "steps": 12}), bench.open()
    job_id = bench.create(plan, database)

    def stop(coordinator: Coordinator) -> None:
        trained = [key for key in coordinator.executor.done if "measure" in key and "/12/" in key]  # type: ignore[attr-defined]
        if len(trained) == 4 and coordinator.ledger.job.state == "running":
            with database.write() as session:
                jobs.request(session, job_id, "stop")

    bench.work(job_id, plan, database=database, on_tick=stop)
    found = result(database, job_id)
    assert (found.job.state, found.job.reason, found.job.stage) == ("completed", "user", "final")
    assert any(row.final for row in (*found.front, *found.references))
    assert check(database) == []


def test_time_off_does_not_count(bench: Bench) -> None:
    """Interrupted, left for a day, resumed: the budget of time goes on where it was."""

    class Skewed(Clock):
        skew = 0.0

        def time(self) -> float:
            return super().time() + self.skew

    plan, database = bench.plan(budget={"trials": 8, "time": 3600}), bench.open()
    job_id = bench.create(plan, database)
    clock = Skewed()
    count = 0

    def interrupt(work: Work) -> None:
        nonlocal count
        count += 1
        if count == 12:
            raise KeyboardInterrupt

    for _ in range(2):
        with database.write() as session:
            job = jobs.take(session, job_id, owner_name(), 15.0, clock.time(), force=True)
        executor = FormulaExecutor(plan, database.data_dir / "training", interrupt)
        try:
            Coordinator(database, job, plan, executor, clock=clock).run()
        except KeyboardInterrupt:
            clock.skew = 86_400.0
    found = result(database, job_id).job
    assert (found.state, found.reason) == ("completed", "budget_reached")
