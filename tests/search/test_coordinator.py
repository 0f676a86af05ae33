"""A whole job with arithmetic results: order, ends, caches, and equality of interrupted and uninterrupted
runs."""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from search import ledger
from search.coordinator import Coordinator, LeaseLostError
from search.indicators import indicators
from search.records import FINAL_TRIAL_STATES, TrialRecord
from search.running import result
from search.storage import events, jobs, trials
from search.storage.check import check
from search.storage.database import Database

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any


def rows(database: Database, job_id: str) -> list[TrialRecord]:
    with database.read() as session:
        return trials.all_trials(session, job_id)


def visited(database: Database, job_id: str) -> list[tuple[int, str, str, int]]:
    """What was tried and how far it came, without times."""
    return [(row.number, row.architecture_id, row.state, row.rung) for row in rows(database, job_id)]


def test_a_job_ends_with_a_measured_front_references_and_finalists(bench: Bench) -> None:
    plan, database = bench.plan(), bench.open()
    job_id = bench.create(plan, database)
    bench.work(job_id, plan, database=database)
    found = result(database, job_id)
    assert (found.job.state, found.job.reason, found.job.stage) == ("completed", "budget_reached", "final")
    assert found.front
    assert all(row.kinds["latency_s"] == "measured" for row in found.front)
    assert any(
        row.final and row.final.seeds == 2 and "bits_per_byte" in row.final.test for row in found.front
    )
    assert len(found.references) == len(plan.references)
    assert {row.number for row in rows(database, job_id) if row.number >= 0} == set(range(8))
    assert all(row.state in FINAL_TRIAL_STATES for row in rows(database, job_id))
    assert found.job.indicators["hypervolume"] > 0
    ended, all_ = found.job.context["finalist_trainings"]
    assert ended == all_ > 2
    assert check(database) == []


@pytest.mark.slow
def test_f50_no_work_is_done_twice_and_a_second_job_is_answered_from_the_first(bench: Bench) -> None:
    plan, database = bench.plan(), bench.open()
    first, second = bench.create(plan, database), bench.create(plan, database)
    done = bench.work(first, plan, database=database).done
    assert len(done) == len(set(done))
    again = bench.work(second, plan, database=database).done
    assert [key for key in again if not key.startswith("screen/")] == []
    assert visited(database, first) == visited(database, second)


@pytest.mark.slow
def test_half_of_the_trials_are_not_trained_to_the_end(bench: Bench) -> None:
    """Of trials drawn at random: where later ones are better than earlier ones, more are promoted."""
    plan = bench.plan(budget={"trials": 16}, strategy={"kind": "random", "seed": 3})
    database = bench.open()
    job_id = bench.create(plan, database)
    bench.work(job_id, plan, database=database)
    trials = [row for row in rows(database, job_id) if row.number >= 0]
    trainings = {row.training_id for row in trials}
    to_the_end = {row.training_id for row in trials if row.state == "completed"}
    assert 0.3 <= len(to_the_end) / len(trainings) <= 0.8


def test_a_stopped_job_finishes_what_runs_and_completes(bench: Bench) -> None:
    plan, database = bench.plan(), bench.open()
    job_id = bench.create(plan, database)

    def stop(coordinator: Coordinator) -> None:
        if len(coordinator.ledger.search_trials) == 3 and coordinator.ledger.job.state == "running":
            with database.write() as session:
                jobs.request(session, job_id, "stop")

    bench.work(job_id, plan, database=database, on_tick=stop)
    found = result(database, job_id).job
    assert (found.state, found.reason) == ("completed", "user")
    assert check(database) == []


def test_a_cancelled_job_ends_its_trials(bench: Bench) -> None:
    plan, database = bench.plan(), bench.open()
    job_id = bench.create(plan, database)

    def cancel(coordinator: Coordinator) -> None:
        if len(coordinator.ledger.search_trials) == 3 and coordinator.ledger.job.state == "running":
            with database.write() as session:
                jobs.request(session, job_id, "cancel")

    bench.work(job_id, plan, database=database, on_tick=cancel)
    assert result(database, job_id).job.state == "cancelled"
    assert all(row.state in FINAL_TRIAL_STATES for row in rows(database, job_id))
    assert check(database) == []


def test_a_coordinator_that_lost_its_lease_stops_without_writing(bench: Bench) -> None:
    plan, database = bench.plan(), bench.open()
    job_id = bench.create(plan, database)

    def steal(coordinator: Coordinator) -> None:
        if len(coordinator.ledger.search_trials) == 2:
            with database.write() as session:
                jobs.take(session, job_id, "another:1:1", 15.0, time.time(), force=True)

    with pytest.raises(LeaseLostError):
        bench.work(job_id, plan, database=database, on_tick=steal)
    with database.read() as session:
        assert jobs.get(session, job_id).lease_owner == "another:1:1"


def test_f51_a_space_smaller_than_the_budget_ends_the_job_with_the_reason(bench: Bench) -> None:
    one = {
        "d_model": [32], "num_layers": [1], "mixer": ["gated_conv"], "conv_width": [3, 5], "gates": [1],
        "feed_forward": ["mlp"], "activation": ["relu"], "ff_ratio": [2], "norm": ["rmsnorm"],
        "number_format": ["fp32"], "placement": ["pre"], "residual": ["serial"],
    }  # fmt: skip
    plan, database = bench.plan(space={"set": one}), bench.open()
    job_id = bench.create(plan, database)
    bench.work(job_id, plan, database=database)
    found = result(database, job_id).job
    assert (found.state, found.reason) == ("completed", "space_exhausted")
    assert check(database) == []


@pytest.mark.slow
def test_f52_a_latency_limit_nothing_keeps_ends_the_job_with_an_explanation(bench: Bench) -> None:
    plan, database = bench.plan(constraints={"latency": 1e-9}), bench.open()
    job_id = bench.create(plan, database)
    bench.work(job_id, plan, database=database)
    found = result(database, job_id)
    assert found.job.reason == "infeasible"
    assert "latency_s" in str(found.job.message)
    assert found.front == ()
    assert check(database) == []


def test_dear_indicators_are_stated_seldom_and_are_right_at_the_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stated() -> tuple[int, Mapping[str, Any]]:
        plan = bench.plan(finalists={"count": 0}, budget={"trials": 12})
        database = bench.open()
        job_id = bench.create(plan, database)
        bench.work(job_id, plan, database=database)
        with database.read() as session:
            kinds = [one.kind for one in events.after(session, job_id)]
            return kinds.count("indicators.changed"), jobs.get(session, job_id).indicators

    often, expected = stated()
    monkeypatch.setattr(ledger, "CHEAP_S", -1.0)
    monkeypatch.setattr(ledger, "IDLE_SHARE", 1 - 1e-9)
    seldom, found = stated()
    assert 0 < seldom < often
    assert found["hypervolume"] == expected["hypervolume"]
    assert found["speedup_at_equal_quality"] == expected["speedup_at_equal_quality"]


def test_indicators_that_waited_when_a_coordinator_died_are_stated_by_the_next(bench: Bench) -> None:
    plan, database = bench.plan(finalists={"count": 0}, budget={"trials": 12}), bench.open()
    job_id = bench.create(plan, database)

    def is_stale(coordinator: Coordinator) -> bool:
        held = coordinator.ledger
        if held.job.indicators:
            held._next_indicators = math.inf  # as if they were dear
        return held._stale

    def are_right_when(is_time: Callable[[Coordinator], bool]) -> bool:
        def watch(coordinator: Coordinator) -> None:
            if is_time(coordinator):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            bench.work(job_id, plan, database=database, on_tick=watch)
        with database.write() as session:
            job = jobs.request(session, job_id, "resume")
        found = rows(database, job_id)
        told = indicators(
            [row for row in found if row.number >= 0],
            [row for row in found if row.number < 0],
            job.objectives,
        )
        return all(job.indicators[key] == told[key] for key in ("hypervolume_history", "suggestions"))

    assert not are_right_when(is_stale)
    assert are_right_when(lambda coordinator: True)
