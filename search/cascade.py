"""The filters of a search, one after the other: how much each lets through, and how often it is right.

    closed form   proposals within the static limits and not yet seen, of everything drawn
    screen        of the candidates of a trial the one that is kept
    rung k        trials at rung k that are trained on
    measured      trials at the last rung that are measured whole, since they could join the front

    precision     of pairs (kept, dropped) the share in which the kept one is better, ties half
    interval      Wilson's 95 % over as many independent pairs as the smaller side has members

What a filter dropped is known by what was let through all the same: for the screen one trial in ten, in which
a dropped candidate is tried instead (flag `screen_audit`); for a rung what was promoted while it was among
the best so far and is no longer. `better`: dominates, with the numbers of the highest rung both have reached;
pairs in which neither dominates say nothing. For `measured` the precision is the share of the measured that
stood on the front when they were counted: the others were measured in vain.

Source: evaluators_and_search.md 5.4, 12; Wilson 1927, doi:10.1080/01621459.1927.10502953.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from .multifidelity import RungResult, top
from .objectives import comparable, minimised
from .pareto import Vector, dominates, log_scaled
from .records import FINAL_TRIAL_STATES, TrialRecord

AUDIT = "screen_audit"
"""Flag of a trial that the screen would have dropped."""
NEWEST = 400
"""Trials that precisions are judged by."""
_Z = NormalDist().inv_cdf(0.975)

Qualities = Mapping[tuple[int, int], float]
"""Quality at (trial number, rung)."""
Reached = Mapping[int, Mapping[int, Vector]]
"""Trial number -> rung -> objectives there."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One step of the cascade."""

    name: str
    seen: int
    passed: int
    precision: float | None
    """None while there is no pair to judge by."""
    low: float | None
    high: float | None
    pairs: int

    @property
    def pass_rate(self) -> float | None:
        return self.passed / self.seen if self.seen else None

    def described(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"filter": self.name, "pass_rate": self.pass_rate} | {
            name: getattr(self, name) for name in ("seen", "passed", "precision", "low", "high", "pairs")
        }


def cascade(
    trials: Sequence[TrialRecord],
    qualities: Qualities,
    counters: Mapping[str, int],
    *,
    objectives: Sequence[str],
    rungs: Sequence[int],
    reduction: int,
) -> list[Filter]:
    """The filters of a job in their order. `trials`: of the search, by number."""
    newest = trials[-NEWEST:]
    vectors = _vectors(newest, qualities, objectives)
    found = [_closed_form(counters), _screen(trials, newest, vectors, counters)]
    found += [
        _rung(rung, steps, trials, vectors, reduction) for rung, steps in enumerate(rungs[:-1], start=1)
    ]
    return [*found, _measured(trials, len(rungs), objectives)]


def _closed_form(counters: Mapping[str, int]) -> Filter:
    kept = counters.get("proposed", 0)
    dropped = counters.get("duplicates", 0) + counters.get("infeasible", 0)
    return Filter("closed form", kept + dropped, kept, None, None, None, 0)


def _screen(
    trials: Sequence[TrialRecord],
    newest: Sequence[TrialRecord],
    vectors: Reached,
    counters: Mapping[str, int],
) -> Filter:
    """Kept and dropped candidates of the strategy; named and homogeneous ones were never screened."""
    screened = [row for row in newest if row.origin not in ("enqueued", "earlier", "start")]
    kept = [row.number for row in screened if AUDIT not in row.flags]
    dropped = [row.number for row in screened if AUDIT in row.flags]
    seen = len(trials) + counters.get("screened_out", 0)
    return _judged("screen", seen, len(trials), kept, dropped, vectors)


def _rung(
    rung: int,
    steps: int,
    trials: Sequence[TrialRecord],
    vectors: Reached,
    reduction: int,
) -> Filter:
    """By the quota of now: who is in it and who was promoted before he fell out of it."""
    results = [
        RungResult(number, rung, tuple(reached[rung]))
        for number, reached in vectors.items()
        if rung in reached
    ]
    best = set(top(results, reduction))
    promoted = [result.number for result in results if rung + 1 in vectors[result.number]]
    kept = [number for number in promoted if number in best]
    dropped = [number for number in promoted if number not in best]
    above = {
        number: {level: vector for level, vector in reached.items() if level > rung}
        for number, reached in vectors.items()
    }
    seen, passed = (sum(row.rung >= level for row in trials) for level in (rung, rung + 1))
    return _judged(f"rung of {steps:,} steps", seen, passed, kept, dropped, above)


def _measured(trials: Sequence[TrialRecord], last: int, objectives: Sequence[str]) -> Filter:
    ended = [row for row in trials if row.rung >= last and row.state in FINAL_TRIAL_STATES]
    measured = [row for row in ended if row.kinds.get("latency_s") == "measured"]
    order = sorted(measured, key=lambda row: (row.ended_at is None, row.ended_at, row.number))
    best: list[Vector] = []
    joined = 0
    for row in order:
        if "infeasible" in row.flags or any(key not in row.values for key in objectives):
            continue
        vector = minimised(row.values, objectives)
        if any(dominates(one, vector) or tuple(one) == tuple(vector) for one in best):
            continue
        joined += 1
        best = [one for one in best if not dominates(vector, one)] + [vector]
    low, high = wilson(joined, len(measured))
    share = joined / len(measured) if measured else None
    return Filter("measured", len(ended), len(measured), share, low, high, len(measured))


def _judged(
    name: str,
    seen: int,
    passed: int,
    kept: Sequence[int],
    dropped: Sequence[int],
    vectors: Reached,
) -> Filter:
    wins, pairs = 0.0, 0
    for better in kept:
        for worse in dropped:
            sign = _compared(better, worse, vectors)
            if sign is not None:
                wins, pairs = wins + sign, pairs + 1
    if not pairs:
        return Filter(name, seen, passed, None, None, None, 0)
    share = wins / pairs
    independent = min(pairs, len(kept), len(dropped))
    low, high = wilson(share * independent, independent)
    return Filter(name, seen, passed, share, low, high, pairs)


def _compared(one: int, other: int, vectors: Reached) -> float | None:
    """1, 0 or a half for equal ones at the highest rung both have; None where neither dominates."""
    common = vectors.get(one, {}).keys() & vectors.get(other, {}).keys()
    if not common:
        return None
    mine, yours = vectors[one][max(common)], vectors[other][max(common)]
    if tuple(mine) == tuple(yours):
        return 0.5
    if dominates(mine, yours):
        return 1.0
    return 0.0 if dominates(yours, mine) else None


def _vectors(
    rows: Iterable[TrialRecord], qualities: Qualities, objectives: Sequence[str]
) -> dict[int, dict[int, Vector]]:
    by_number = {row.number: comparable(row.values) for row in rows}
    found: dict[int, dict[int, Vector]] = {number: {} for number in by_number}
    for (number, rung), quality in qualities.items():
        values = {**by_number.get(number, {}), objectives[0]: quality}
        if number in by_number and all(key in values for key in objectives):
            found[number][rung] = log_scaled(minimised(values, objectives), objectives)
    return found


def wilson(successes: float, count: int) -> tuple[float | None, float | None]:
    """95 % interval of a share.

    >>> [round(end, 3) for end in wilson(5, 10)]
    [0.237, 0.763]
    """
    if not count:
        return None, None
    share = successes / count
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / (1 + _Z**2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)
