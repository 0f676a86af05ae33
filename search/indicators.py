"""What a job has found, in a few numbers: hypervolume, gain over the references, speed-up, points to look at.

    u_i = (g_i(f_i) - z_i) / (w_i - z_i)     g: logarithm of logarithmic objectives; z best, w worst of the
    references hypervolume = volume between the front and the point (1.1, ..., 1.1)

The scale comes from the references' numbers of the search stage, whether or not they keep the constraints,
and never changes afterwards, so no reference is dropped and the history stays comparable. A front better than
every reference can exceed 1.1^k. Source: Zitzler and Thiele 1999, doi:10.1109/4235.797969; computed by
moocore, definition below.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import moocore
import numpy as np

from .equal_quality import Point, Speedup, best_speedup
from .front_quality import additive_epsilon, igd_plus, nondominated_probability
from .objectives import OBJECTIVES, minimised
from .pareto import Vector, dominates, front, log_scaled
from .ranks import final_ranks
from .records import Spread, TrialRecord
from .suggestions import suggestions

SCHEMA_VERSION = 1
REFERENCE_POINT = 1.1
"""In every normalised objective: 10 % beyond the worst reference."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Fixed after the references. Both vectors are minimised, with logarithms where the objective has
    them.
    """

    objectives: tuple[str, ...]
    ideal: tuple[float, ...]
    """Normalised 0: the best reference of each objective."""
    worst: tuple[float, ...]
    """Normalised 1: the worst reference of each objective."""

    @classmethod
    def of(cls, references: Sequence[TrialRecord], objectives: Sequence[str]) -> "Scale | None":
        """None without a measured reference. Where all are equal, a tenth of the value makes the worst."""
        vectors = [log_scaled(minimised(one.values, objectives), objectives) for one in references]
        if not vectors:
            return None
        ideal = tuple(min(column) for column in zip(*vectors, strict=True))
        worst = tuple(max(column) for column in zip(*vectors, strict=True))
        worst = tuple(w if w > z else z + (abs(z) / 10 or 1.0) for z, w in zip(ideal, worst, strict=True))
        return cls(tuple(objectives), ideal, worst)

    @property
    def reference_point(self) -> tuple[float, ...]:
        return tuple(z + REFERENCE_POINT * (w - z) for z, w in zip(self.ideal, self.worst, strict=True))

    def normalised(self, values: Mapping[str, float]) -> tuple[float, ...]:
        vector = log_scaled(minimised(values, self.objectives), self.objectives)
        return tuple((x - z) / (w - z) for x, z, w in zip(vector, self.ideal, self.worst, strict=True))

    def hypervolume(self, values: Sequence[Mapping[str, float]]) -> float:
        return hypervolume(
            [self.normalised(one) for one in values], (REFERENCE_POINT,) * len(self.objectives)
        )


def hypervolume(vectors: Sequence[Vector], reference_point: Vector) -> float:
    """Volume dominated by the points and bounded by the reference point; points beyond it count nothing."""
    if not vectors:
        return 0.0
    return float(moocore.hypervolume(np.array(vectors, dtype=np.float64), ref=list(reference_point)))


def hypervolume_2d(vectors: Sequence[Vector], reference_point: Vector) -> float:
    """The definition for two objectives: strips under the staircase, O(N log N)."""
    right, top = reference_point
    area = 0.0
    for x, y in sorted((x, y) for x, y in vectors if x < right and y < top):
        if y < top:
            area += (right - x) * (top - y)
            top = y
    return area


def counted(
    trials: Sequence[TrialRecord], objectives: Sequence[str], *, with_infeasible: bool = False
) -> list[TrialRecord]:
    """Trials that may stand on a front: completed within the constraints, every objective known, every
    latency measured; by number. `with_infeasible`: whether or not they keep the constraints.
    """
    timed = [key for key in objectives if OBJECTIVES[key].source == "latency"]
    rows = [
        one
        for one in trials
        if one.state == "completed"
        and (with_infeasible or "infeasible" not in one.flags)
        and all(key in one.values for key in objectives)
        and all(one.kinds.get(key) == "measured" for key in timed)
    ]
    return sorted(rows, key=lambda one: abs(one.number))


def indicators(
    trials: Sequence[TrialRecord], references: Sequence[TrialRecord], objectives: Sequence[str]
) -> dict[str, Any]:
    """Everything a page, a report or `--json` says about a job as a whole; plain JSON.

    Keys: schema_version, stage, hypervolume, reference_hypervolume, hypervolume_gain (fraction of the
    references', once a trial is counted), hypervolume_history [[trials counted, hypervolume], ...],
    speedup_at_equal_quality, speedup_at_equal_quality_search (once finalists exist: the same on the search
    stage's numbers),
    suggestions, scale {objectives, ideal, worst, reference_point}, igd_plus and additive_epsilon (how far the
    front falls short of the references' front, 0 or less: nowhere), nondominated_probability {trial of the
    front: probability that it stays on it}, final_ranks (once finalists exist: `ranks.final_ranks`). A figure
    that cannot be stated is None.
    """
    rows, ordinary = counted(trials, objectives), counted(references, objectives)
    scale = Scale.of(counted(references, objectives, with_infeasible=True), objectives)
    final = any(one.final for one in rows)
    best = [rows[index] for index in front(_vectors(rows, objectives))]
    found: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "stage": "final" if final else "search",
        "hypervolume": None,
        "reference_hypervolume": None,
        "hypervolume_gain": None,
        "hypervolume_history": [],
        "speedup_at_equal_quality": _speedups(rows, ordinary, objectives, final=final),
        "suggestions": suggestions(best, objectives),
        "scale": None,
        "igd_plus": None,
        "additive_epsilon": None,
        "nondominated_probability": _staying(best, objectives),
    }
    if final:
        found["final_ranks"] = final_ranks((*rows, *ordinary), objectives)
        found["speedup_at_equal_quality_search"] = _speedups(rows, ordinary, objectives, final=False)
    if scale is not None:
        volume = scale.hypervolume([one.effective for one in best])
        reference_volume = scale.hypervolume([one.effective for one in ordinary])
        found |= {
            "hypervolume": volume,
            "reference_hypervolume": reference_volume,
            "hypervolume_gain": volume / reference_volume - 1 if best and reference_volume > 0 else None,
            "hypervolume_history": hypervolume_history(rows, scale),
            "scale": {
                "objectives": list(scale.objectives),
                "ideal": list(scale.ideal),
                "worst": list(scale.worst),
                "reference_point": list(scale.reference_point),
            },
        }
        ours, theirs = ([scale.normalised(one.effective) for one in some] for some in (best, ordinary))
        if ours and theirs:
            target = [theirs[index] for index in front(theirs)]
            found |= {
                "igd_plus": igd_plus(ours, target),
                "additive_epsilon": additive_epsilon(ours, target),
            }
    return found


def _staying(best: Sequence[TrialRecord], objectives: Sequence[str]) -> dict[str, float]:
    """Normal errors as wide as the 95 % intervals; a number without an interval is taken as exact."""
    means = [minimised(one.effective, objectives) for one in best]
    deviations = [tuple(_deviation(one.effective_spread.get(key)) for key in objectives) for one in best]
    found = nondominated_probability(means, deviations) if best else []
    return {str(one.number): share for one, share in zip(best, found, strict=True)}


def _deviation(spread: Spread | None) -> float:
    width = spread.high - spread.low if spread else 0.0
    return width / (2 * NormalDist().inv_cdf(0.975)) if math.isfinite(width) else 0.0


def hypervolume_history(rows: Sequence[TrialRecord], scale: Scale) -> list[list[float]]:
    """[trials counted, hypervolume] in the order of completion, on the search stage's numbers; only where it
    grew, and the last.
    """
    ordered = sorted(rows, key=lambda one: (one.ended_at or one.created_at, one.number))
    history: list[list[float]] = []
    best: list[tuple[float, ...]] = []
    corner = (REFERENCE_POINT,) * len(scale.objectives)
    for count, row in enumerate(ordered, start=1):
        point = scale.normalised(row.values)
        if any(all(a <= b for a, b in zip(member, point, strict=True)) for member in best):
            continue  # adds no volume: nearly all trials of a long job
        volume = hypervolume([*best, point], corner)
        if not history or volume > history[-1][1]:
            best = [member for member in best if not dominates(point, member)] + [point]
            history.append([count, volume])
    if history and history[-1][0] != len(ordered):
        history.append([len(ordered), history[-1][1]])
    return history


def _vectors(rows: Sequence[TrialRecord], objectives: Sequence[str]) -> list[tuple[float, ...]]:
    return [minimised(one.effective, objectives) for one in rows]


def _speedups(
    rows: Sequence[TrialRecord], references: Sequence[TrialRecord], objectives: Sequence[str], *, final: bool
) -> dict[str, Any] | None:
    """The largest speed-up, and the largest against fp32 and against int8 references alone.

    In the final stage only what was retrained is compared, on both sides: all at the finalists' budget.
    `including_worse`: the largest when points worse than every reference count too (the fastest reference
    stands in for the one of equal quality that does not exist); see docs/decisions/0003.
    """
    quality = objectives[0]
    points = _points(rows, quality, final=final)
    leading = front([(point.quality, point.latency_s) for point in points])
    points = [points[index] for index in leading]  # no dominated point is faster at equal quality
    ordinary = _points(references, quality, final=final)
    best = best_speedup(_good_enough(points, ordinary), ordinary)
    if best is None:
        return None
    formats = {one.number: _formats(one) for one in references}
    plain = [point for point in ordinary if formats[point.trial] == {"fp32"}]
    quantized = [point for point in ordinary if "int8_dynamic" in formats[point.trial]]
    return {
        **best.as_json(),
        "stage": "final" if final else "search",
        "including_worse": _json(best_speedup(points, ordinary)),
        "against_fp32": _json(best_speedup(_good_enough(points, plain), plain)),
        "against_int8": _json(best_speedup(_good_enough(points, quantized), quantized)),
    }


def _good_enough(points: Sequence[Point], references: Sequence[Point]) -> Sequence[Point]:
    """Points at least as good as the worst reference; all of them where there is none such."""
    worst = max((point.quality for point in references), default=math.inf)
    return [point for point in points if point.quality <= worst] or points


def _points(rows: Sequence[TrialRecord], quality: str, *, final: bool) -> list[Point]:
    points = []
    for one in rows:
        if final and one.final is None:
            continue
        values = one.effective if final else one.values
        spread = one.effective_spread if final else one.spread
        if "latency_s" in values and one.kinds.get("latency_s") == "measured":
            points.append(
                Point(
                    one.number,
                    OBJECTIVES[quality].minimised(values[quality]),
                    values["latency_s"],
                    _interval(spread.get(quality), maximise=OBJECTIVES[quality].maximise),
                    _interval(spread.get("latency_s")),
                )
            )
    return points


def _interval(spread: Spread | None, *, maximise: bool = False) -> tuple[float, float] | None:
    if spread is None or not (math.isfinite(spread.low) and math.isfinite(spread.high)):
        return None
    return (-spread.high, -spread.low) if maximise else (spread.low, spread.high)


def _formats(row: TrialRecord) -> set[str]:
    return {str(layer["number_format"]) for layer in row.architecture["layers"]}


def _json(found: Speedup | None) -> dict[str, Any] | None:
    return found.as_json() if found else None
