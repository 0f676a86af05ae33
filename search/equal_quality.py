"""Speed-up at equal quality: how much faster a point is than the ordinary transformer of the same quality.

    speedup(point) = L_ref(q) / latency      log L_ref is linear in quality between adjacent points of the
                                             reference front (quality minimised, latency positive)

Worse than every reference: the fastest reference stands for L_ref. Better than every reference: the most
accurate one, and the figure is a lower bound. The interval moves every known input (latency and quality of
the point and of the references) to the ends of its own interval, one at a time, and adds the changes of log
speed-up in quadrature.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from .pareto import front

Place = Literal["within", "better", "worse"]
"""Quality of the point against the reference front: inside its range, better or worse than all of it."""


@dataclass(frozen=True, slots=True)
class Point:
    """One trial on the two axes, with its 95 % intervals where they are known."""

    trial: int
    quality: float
    """Minimised."""
    latency_s: float
    quality_interval: tuple[float, float] | None = None
    latency_interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Speedup:
    """A factor: 2.0 is twice as fast."""

    trial: int
    value: float
    place: Place
    low: float | None = None
    high: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "trial": self.trial,
            "lower_bound": self.place == "better",
            "quality": self.place,
        }


def reference_latency(quality: float, references: Sequence[Point]) -> tuple[float, Place]:
    """Latency of the reference front at a quality; `references` is any non-empty set of points."""
    kept = front([(point.quality, point.latency_s) for point in references])
    points = sorted((references[index] for index in kept), key=lambda point: point.quality)
    best, worst = points[0], points[-1]
    if quality < best.quality:
        return best.latency_s, "better"
    if quality > worst.quality:
        return worst.latency_s, "worse"
    for left, right in pairwise(points):
        if quality <= right.quality:
            share = (quality - left.quality) / (right.quality - left.quality)
            log_latency = (1 - share) * math.log(left.latency_s) + share * math.log(right.latency_s)
            return math.exp(log_latency), "within"
    return best.latency_s, "within"


def speedup(point: Point, references: Sequence[Point]) -> Speedup:
    """The speed-up of one point, without interval."""
    latency, place = reference_latency(point.quality, references)
    return Speedup(point.trial, latency / point.latency_s, place)


def with_interval(point: Point, references: Sequence[Point]) -> Speedup:
    """The speed-up of one point; no interval when neither it nor a reference has one."""
    found = speedup(point, references)
    pairs = [[speedup(end, references).value for end in ends] for ends in _ends(point)]
    for index, reference in enumerate(references):
        others = [*references[:index], *references[index + 1 :]]
        pairs += [[speedup(point, [*others, end]).value for end in ends] for ends in _ends(reference)]
    if not pairs:
        return found
    changes = [[math.log(value / found.value) for value in pair] for pair in pairs]
    down = math.sqrt(sum(min(0.0, *pair) ** 2 for pair in changes))
    up = math.sqrt(sum(max(0.0, *pair) ** 2 for pair in changes))
    return replace(found, low=found.value * math.exp(-down), high=found.value * math.exp(up))


def best_speedup(points: Sequence[Point], references: Sequence[Point]) -> Speedup | None:
    """The largest speed-up of the points, with its interval; the lower trial number wins a tie."""
    if not points or not references:
        return None
    winner = min(points, key=lambda point: (-speedup(point, references).value, point.trial))
    return with_interval(winner, references)


def _ends(point: Point) -> list[tuple[Point, Point]]:
    """The point moved to both ends of each known interval."""
    ends = []
    if point.quality_interval is not None:
        low, high = point.quality_interval
        ends.append((replace(point, quality=low), replace(point, quality=high)))
    if point.latency_interval is not None:
        low, high = point.latency_interval
        low = low if low > 0 else point.latency_s**2 / high  # as far below as above, by ratio
        ends.append((replace(point, latency_s=low), replace(point, latency_s=high)))
    return ends
