"""The best end of an unfinished training, and promotions that it spares."""

import statistics
from typing import TYPE_CHECKING, Any

import pytest
from scipy import stats

from search.clock import Clock
from search.ledger import Ledger
from search.outlook import Outlook
from search.storage import jobs

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any


def test_what_finished_trainings_gained_bounds_the_others(bench: Bench) -> None:
    plan, database = bench.plan(finalists={"count": 0}, strategy={"kind": "random"}), bench.open()
    job_id = bench.create(plan, database)
    bench.work(job_id, plan, database=database)
    with database.read() as session:
        ledger = Ledger(database, jobs.get(session, job_id), plan, Clock())
    outlook = Outlook(ledger)
    unfinished = next(row for row in ledger.search_trials if row.rung == 1)
    assert all(outlook.optimistic(row) is None for row in ledger.trials.values() if row.rung != 1)

    gains = {0: -0.5, 1: -0.4, 2: -0.6, 3: -0.5, 4: -0.45}
    ledger.rung_quality = {(unfinished.number, 1): 3.0}
    others = [row for row in ledger.trials.values() if row.number != unfinished.number]
    for gain, row in zip(gains.values(), others, strict=False):
        ledger.rung_quality |= {(row.number, 1): 2.0, (row.number, 2): 2.0 + gain}
    assert outlook.optimistic(unfinished) is None  # five finished ones are too few
    ledger.rung_quality |= {(others[5].number, 1): 2.0, (others[5].number, 2): 1.55}
    known = [*gains.values(), -0.45]
    half = stats.t.ppf(0.975, 5) * statistics.stdev(known) * (1 + 1 / 6) ** 0.5
    assert outlook.optimistic(unfinished) == pytest.approx(3.0 + statistics.fmean(known) - half)
