"""Composed latencies learn from whole models, of this job and of earlier ones on the same target."""

import math
from typing import TYPE_CHECKING

import pytest

from api.gathering import gather
from dashboards.figures import LatencyPair, latency_pairs
from evaluators.protocol import Measurement
from search.clock import Clock
from search.evidence import interval
from search.ledger import Ledger
from search.records import TrialRecord
from search.storage import jobs, trials
from search.storage.database import Database

if TYPE_CHECKING:
    from .conftest import Bench


def ledger(bench: "Bench", database: Database, job_id: str, **changes: object) -> Ledger:
    with database.read() as session:
        job = jobs.get(session, job_id)
    return Ledger(database, job, bench.plan(**changes), Clock())


def rows(database: Database, job_id: str) -> list[TrialRecord]:
    return database.reading(lambda session: trials.all_trials(session, job_id))


def compared(database: Database, job_id: str) -> list[LatencyPair]:
    """What the job's page compares."""
    with database.read() as session:
        shown = gather(session, jobs.get(session, job_id))
    return latency_pairs(shown.trials, shown.latencies)


@pytest.mark.slow
def test_a_job_begins_with_the_whole_models_of_earlier_ones(bench: "Bench") -> None:
    database, plan = bench.open(), bench.plan()
    first, second = bench.create(plan, database), bench.create(plan, database)
    bench.work(first, plan, database=database)
    measured = {
        trial.architecture_id: trial.values["latency_s"]
        for trial in rows(database, first)
        if trial.kinds.get("latency_s") == "measured"
    }
    third = bench.create(plan, database)
    found = ledger(bench, database, third).earlier_pairs()
    assert found
    assert set(found) <= set(measured)
    for id, pair in found.items():
        assert pair.measured_s == measured[id]
        assert pair.composed_s > 0
        assert pair.shares["head"] > 0

    # what a job began with stays: those that began before the measurements never see them
    assert ledger(bench, database, first).earlier_pairs() == {}
    assert ledger(bench, database, second).earlier_pairs() == {}

    # another target learns nothing
    other = {"target": {"length": 64}}
    elsewhere = bench.create(bench.plan(**other), database)
    assert ledger(bench, database, elsewhere, **other).earlier_pairs() == {}

    # what was predicted stands beside what was measured, for every trial of the search that was
    kept = compared(database, first)
    assert {pair.trial for pair in kept} == {
        trial.number
        for trial in rows(database, first)
        if trial.number >= 0 and trial.kinds.get("latency_s") == "measured"
    }

    # a job that measures the same architectures counts each of them once
    bench.work(third, plan, database=database)
    assert compared(database, first) == kept  # and its predictions are its own
    assert len(compared(database, third)) > 0
    one = ledger(bench, database, third)
    assert one.earlier_pairs() == found
    (predicted,) = one.predict([one.architecture(one.search_trials[0])])
    own = {row.architecture_id for row in one.trials.values() if row.kinds.get("latency_s") == "measured"}
    assert len(found) <= predicted.detail["correction"]["pairs"] <= len(own | set(found))


def test_a_spread_without_an_end_is_stored_as_none_and_marked(bench: "Bench") -> None:
    """On a machine with no quiet moment an interval may have no ends; the job goes on."""
    database, plan = bench.open(), bench.plan()
    one = ledger(bench, database, bench.create(plan, database))
    wild = Measurement("block_latency_s", 1e-4, "s", "measured", spread=math.inf)
    one.keep_blocks({"0" * 32: wild})
    (stored,) = one.keep([one.record("1" * 32, wild, "mark")])
    assert (stored.value, stored.spread, stored.flags) == (1e-4, None, ("noisy",))
    assert interval(wild) is None
