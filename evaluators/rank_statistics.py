"""How well one list of numbers orders another: alone, given size, and inside groups of equal size.

    tau        = (concordant - discordant) / sqrt((pairs - ties_x) (pairs - ties_y))       (Kendall's tau-b)
    rho        = Pearson's correlation of average ranks                                    (Spearman)
    partial    = Pearson's correlation of what is left of both lists' ranks after a linear fit to the ranks
                 of the controls
    in strata  = tau inside each group, mean weighted by the group's pairs

NaN where nothing varies. Source: Kendall 1945, Biometrika 33(3).
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = Sequence[float] | NDArray[np.float64]


def ranks(values: Numbers) -> NDArray[np.float64]:
    """From 1 for the smallest; ties share their mean."""
    array = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    shared: NDArray[np.float64] = (last - (counts - 1) / 2.0)[inverse]
    return shared


def kendall(x: Numbers, y: Numbers) -> float:
    """Tau-b; O(n^2) memory."""
    signs = [np.sign(np.subtract.outer(v, v)) for v in (np.asarray(x, float), np.asarray(y, float))]
    concordance = float((signs[0] * signs[1]).sum())
    scale = math.sqrt(float(np.abs(signs[0]).sum()) * float(np.abs(signs[1]).sum()))
    return concordance / scale if scale else math.nan


def kendall_reference(x: Numbers, y: Numbers) -> float:
    """Pair by pair."""
    concordance, untied_x, untied_y = 0, 0, 0
    for i in range(len(x)):
        for j in range(i):
            a, b = (x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])
            concordance += a * b
            untied_x += a != 0
            untied_y += b != 0
    return concordance / math.sqrt(untied_x * untied_y) if untied_x and untied_y else math.nan


def spearman(x: Numbers, y: Numbers) -> float:
    return pearson(ranks(x), ranks(y))


def partial_spearman(x: Numbers, y: Numbers, controls: Sequence[Numbers]) -> float:
    """Spearman's correlation of x and y given the controls; NaN where they explain one of the two wholly."""
    design = np.column_stack([np.ones(len(x)), *(ranks(control) for control in controls)])
    left = []
    for values in (ranks(x), ranks(y)):
        fit, *_ = np.linalg.lstsq(design, values, rcond=None)
        rest = values - design @ fit
        # what rounding leaves of a list that the controls explain is no information
        left.append(np.where(np.abs(rest) < 1e-9 * len(values), 0.0, rest))
    return pearson(*left)


def pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """NaN where one of them does not vary."""
    a, b = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0.0 else math.nan


def tau_in_strata(
    x: Numbers, y: Numbers, strata: Sequence[Hashable], *, least: int = 5
) -> tuple[float, dict[Hashable, float]]:
    """Mean over the strata of `least` members or more, weighted by pairs, and each of them."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, stratum in enumerate(strata):
        members[stratum].append(index)
    found = {
        stratum: kendall([x[i] for i in own], [y[i] for i in own])
        for stratum, own in members.items()
        if len(own) >= least
    }
    known = {key: tau for key, tau in found.items() if math.isfinite(tau)}
    weights = [len(members[key]) * (len(members[key]) - 1) for key in known]
    if not weights:
        return math.nan, found
    return float(np.average(list(known.values()), weights=weights)), found


def precision_at_top(x: Numbers, y: Numbers, share: float = 0.1) -> float:
    """Share of the best of y (larger is better) that are among as many best of x; ties by place."""
    count = max(1, round(share * len(x)))
    best = [set(np.argsort(-np.asarray(v, float), kind="stable")[:count].tolist()) for v in (x, y)]
    return len(best[0] & best[1]) / count
