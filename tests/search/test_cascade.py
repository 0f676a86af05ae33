"""What the filters of a search let through, and how often they are right."""

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from search.cascade import AUDIT, cascade, wilson
from search.records import TrialRecord
from search.running import result

from .test_coordinator import rows

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

KEYS = ("bits_per_byte", "latency_s")
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def trial(number: int, latency: float, rung: int, *flags: str, measured: bool = False) -> TrialRecord:
    return TrialRecord(
        job_id="j", number=number, origin="mutation", parents=(), note="", asked_after=0,
        architecture_id=str(number), training_id=str(number), architecture={},
        state="completed" if rung == 2 else "pruned", reason=None, message=None, attempt=0, rung=rung,
        steps=0, values={"latency_s": latency, "bits_per_byte": 2.0}, spread={},
        kinds={"latency_s": "measured" if measured else "predicted"}, flags=flags, final=None,
        on_front=False, created_at=NOW, ended_at=NOW + dt.timedelta(seconds=number),
    )  # fmt: skip


def judged(trials: list[TrialRecord], qualities: dict[tuple[int, int], float]) -> dict[str, Any]:
    found = cascade(
        trials, qualities, {"proposed": 8, "duplicates": 1, "infeasible": 1, "screened_out": 4},
        objectives=KEYS, rungs=(4, 8), reduction=2,
    )  # fmt: skip
    return {one.name: one for one in found}


def test_the_screen_is_judged_by_what_it_would_have_dropped() -> None:
    """Of the four pairs with the audited trial 3 the kept one is better in two, worse in one, and one says
    nothing."""
    trials = [trial(0, 1.0, 1), trial(1, 0.5, 1), trial(2, 3.0, 1), trial(3, 2.0, 1, AUDIT), trial(4, 3.0, 1)]
    qualities = {(0, 1): 2.0, (1, 1): 1.0, (2, 1): 3.0, (3, 1): 2.5, (4, 1): 2.0}
    screen = judged(trials, qualities)["screen"]
    assert (screen.seen, screen.passed, screen.pairs) == (9, 5, 3)
    assert screen.precision == pytest.approx(2 / 3)
    assert (screen.low, screen.high) == wilson(2 / 3, 1)


def test_a_rung_is_judged_by_what_it_promoted_too_early() -> None:
    """Trial 0 was promoted alone; by the quota of four, 1 and 2 go on: 1 was rightly preferred, 2 not."""
    trials = [trial(0, 2.0, 2), trial(1, 1.0, 2), trial(2, 1.5, 2), trial(3, 9.0, 1)]
    qualities = {(0, 1): 3.0, (1, 1): 1.0, (2, 1): 0.5, (3, 1): 4.0}
    qualities |= {(0, 2): 2.0, (1, 2): 1.0, (2, 2): 2.0}
    rung = judged(trials, qualities)["rung of 4 steps"]
    assert (rung.seen, rung.passed, rung.pairs) == (4, 3, 2)
    assert rung.precision == 1.0
    worse = {**qualities, (2, 2): 5.0, (0, 2): 2.0}
    assert judged([*trials[:2], trial(2, 2.5, 2), trials[3]], worse)["rung of 4 steps"].precision == 0.5


def test_measurements_are_judged_by_who_stood_on_the_front() -> None:
    trials = [
        trial(0, 2.0, 2, measured=True),
        trial(1, 1.0, 2, measured=True),  # as accurate and faster: joins
        trial(2, 1.5, 2, measured=True),  # neither: measured in vain
        trial(3, 3.0, 2),
        trial(4, 0.1, 2, "infeasible", measured=True),
    ]
    found = judged(trials, {})["measured"]
    assert (found.seen, found.passed, found.precision) == (5, 4, 0.5)
    assert judged([], {})["measured"].precision is None
    closed = judged([], {})["closed form"]
    assert (closed.seen, closed.passed, closed.pass_rate) == (10, 8, 0.8)


@pytest.mark.slow
def test_a_job_says_how_its_filters_did(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.screening.AUDIT_SHARE", 0.5)
    plan = bench.plan(
        finalists={"count": 0}, strategy={"kind": "random"}, screen={"candidates": 4, "sample": 0},
        budget={"trials": 14},
    )  # fmt: skip
    database = bench.open()
    job_id = bench.create(plan, database)
    bench.work(job_id, plan, database=database)
    own = [row for row in rows(database, job_id) if row.number >= 0]
    assert any(AUDIT in row.flags for row in own)
    assert any(AUDIT not in row.flags and row.origin == "random" for row in own)
    found = {one["filter"]: one for one in result(database, job_id).job.indicators["cascade"]}
    assert list(found) == ["closed form", "screen", "rung of 4 steps", "measured"]
    assert found["screen"]["passed"] == found["rung of 4 steps"]["seen"] == 14
    assert 0 < found["screen"]["pass_rate"] < 0.7
