"""Points of a front worth a look: the knee and two more, each with a reason; and the ones a person asks for
by name.

    knee: largest (1 - sum_i u_i), u the front stretched to [0, 1]: the distance to the line (plane) through
    the ends trade-off: largest of min over the other points of (gain given up) / (loss avoided) when moving
    away from it

Source: Das 1999, Structural Optimization 18 (knee); Rachmawati and Srinivasan 2009, IEEE TEVC 13 (trade-off).
"""

from collections.abc import Callable, Sequence
from typing import Any

from space.errors import InvalidInputError, nearest

from .objectives import OBJECTIVES, minimised
from .pareto import log_scaled, unit
from .records import TrialRecord

Position = tuple[float, ...]


def suggestions(best: Sequence[TrialRecord], objectives: Sequence[str]) -> list[dict[str, Any]]:
    """At most three of the front's trials: {trial, kind, reason}, kind of knee, trade_off, most_accurate,
    fastest (cheapest where the second objective is not a latency).
    """
    if not best:
        return []
    points = _stretched(best, objectives)
    sharp = _trade_off(best, points)
    quality, cost = objectives[:2]
    candidates = [
        ("knee", best[_knee(best, points)], "farthest from the line between the ends of the front"),
        ("trade_off", best[sharp], _trade_off_reason(_sharpness(sharp, points))),
        ("most_accurate", _least(best, quality), f"lowest {OBJECTIVES[quality].label} of the front"),
        (_cheapest(cost), _least(best, cost), f"lowest {OBJECTIVES[cost].label} of the front"),
    ]
    chosen: dict[int, dict[str, Any]] = {}
    for kind, row, reason in candidates:
        if len(chosen) < 3 and row.number not in chosen:
            chosen[row.number] = {"trial": row.number, "kind": kind, "reason": reason}
    return list(chosen.values())


PICKS = ("knee", "fastest", "most-accurate")


def pick(best: Sequence[TrialRecord], objectives: Sequence[str], which: str) -> TrialRecord:
    """The trial of a front that a word of `PICKS` means.

    Raises:
        InvalidInputError: unknown word, or an empty front.
    """
    choose: dict[str, Callable[[], TrialRecord]] = {
        "knee": lambda: best[_knee(best, _stretched(best, objectives))],
        "fastest": lambda: _least(best, "latency_s"),
        "most-accurate": lambda: _least(best, objectives[0]),
    }
    if which not in choose:
        raise InvalidInputError(f"unknown pick '{which}'; {nearest(which, PICKS)}")
    if not best:
        raise InvalidInputError(
            f"there is no '{which}': the front is empty; wait for the first completed trial"
        )
    return choose[which]()


def _stretched(best: Sequence[TrialRecord], objectives: Sequence[str]) -> list[Position]:
    return unit([log_scaled(minimised(one.effective, objectives), objectives) for one in best])


def _knee(best: Sequence[TrialRecord], points: Sequence[Position]) -> int:
    return min(range(len(best)), key=lambda index: (round(sum(points[index]), 12), *_tie(best[index])))


def _trade_off(best: Sequence[TrialRecord], points: Sequence[Position]) -> int:
    return min(
        range(len(best)), key=lambda index: (-round(_sharpness(index, points), 12), *_tie(best[index]))
    )


def _sharpness(index: int, points: Sequence[Position]) -> float:
    """Least (worsening / improvement) on the way to any other point; 0 when there is none."""
    here = points[index]
    ratios = []
    for other in (point for k, point in enumerate(points) if k != index):
        worse = sum(max(0.0, y - x) for x, y in zip(here, other, strict=True))
        better = sum(max(0.0, x - y) for x, y in zip(here, other, strict=True))
        ratios.append(worse / better if better > 0 else float("inf"))
    return min(ratios, default=0.0)


def _trade_off_reason(sharpness: float) -> str:
    return f"any other point gives up {sharpness:.2g} times what it gains, or more (shares of the ranges)"


def _cheapest(cost: str) -> str:
    return "fastest" if OBJECTIVES[cost].source == "latency" else "cheapest"


def _least(best: Sequence[TrialRecord], key: str) -> TrialRecord:
    return min(best, key=lambda one: (OBJECTIVES[key].minimised(one.effective[key]), *_tie(one)))


def _tie(row: TrialRecord) -> tuple[float, int]:
    """Lower latency first, then the lower number."""
    return (row.effective.get("latency_s", 0.0), row.number)
