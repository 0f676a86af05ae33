"""How good a front is beside hypervolume: distance to another front, noise, agreement of several runs.

    IGD+(A, Z)   = mean over z in Z of min over a in A of |max(a - z, 0)|_2       0: A weakly dominates Z
    epsilon(A, Z) = max over z of min over a of max_i (a_i - z_i)                 additive
    attained by k of m runs at x: the k-th smallest over runs of the best y among a run's points up to x
    P(a non-dominated): share of `DRAWS` draws, every objective with its own normal error, in which a is on
    the front

Vectors are minimised; the caller normalises them. Source: Ishibuchi et al. 2015,
doi:10.1007/978-3-319-15892-1_8 (IGD+; plain IGD is not compliant with dominance); Zitzler et al. 2003,
doi:10.1109/TEVC.2003.810758 (epsilon); Grunert da Fonseca et al. 2001, doi:10.1007/3-540-44719-9_15
(attainment).
"""

from collections.abc import Sequence

import numpy as np

from space.errors import InvalidInputError

from .pareto import Vector, dominates

DRAWS = 1000
_LARGEST = 2_000_000
"""Numbers compared at once."""


def igd_plus(front: Sequence[Vector], target: Sequence[Vector]) -> float:
    """Mean distance by which the front falls short of the target's points; infinite for an empty front."""
    if not front or not target:
        return float("inf") if target else 0.0
    short = np.maximum(_differences(front, target), 0.0)
    return float(np.sqrt((short**2).sum(axis=2)).min(axis=0).mean())


def additive_epsilon(front: Sequence[Vector], target: Sequence[Vector]) -> float:
    """By how much every objective of the front has to fall to weakly dominate the target; infinite for an
    empty front.
    """
    if not front or not target:
        return float("inf") if target else float("-inf")
    return float(_differences(front, target).max(axis=2).min(axis=0).max())


def attainment_surface(runs: Sequence[Sequence[Vector]], least: int) -> list[tuple[float, float]]:
    """Corners of what at least `least` of the runs attain, by the first of two objectives.

    Raises:
        InvalidInputError: `least` is not between 1 and the number of runs.
    """
    if not 1 <= least <= len(runs):
        raise InvalidInputError(f"least={least} must be between 1 and the {len(runs)} runs")
    corners: list[tuple[float, float]] = []
    for x in sorted({float(point[0]) for run in runs for point in run}):
        best = sorted(min((p[1] for p in run if p[0] <= x), default=float("inf")) for run in runs)
        y = float(best[least - 1])
        if y < (corners[-1][1] if corners else float("inf")):
            corners.append((x, y))
    return corners


def nondominated_probability(
    means: Sequence[Vector], deviations: Sequence[Vector], *, seed: int = 0
) -> list[float]:
    """For every point the probability that no other dominates it when all are measured again."""
    drawn = _drawn(means, deviations, seed)
    counts = np.zeros(len(means))
    at_once = max(1, _LARGEST // max(1, drawn[0].size * len(means)))
    for start in range(0, DRAWS, at_once):
        some = drawn[start : start + at_once]
        no_worse = (some[:, :, None] <= some[:, None]).all(axis=3)
        better = (some[:, :, None] < some[:, None]).any(axis=3)
        dominated = np.any(no_worse & better, axis=1)
        counts += len(some) - dominated.sum(axis=0)
    return [float(share) for share in counts / DRAWS]


def nondominated_probability_by_definition(
    means: Sequence[Vector], deviations: Sequence[Vector], *, seed: int = 0
) -> list[float]:
    """Pair by pair, on the same draws."""
    counts = [0] * len(means)
    for cloud in _drawn(means, deviations, seed).tolist():
        for index, point in enumerate(cloud):
            counts[index] += not any(dominates(other, point) for other in cloud)
    return [count / DRAWS for count in counts]


def _drawn(means: Sequence[Vector], deviations: Sequence[Vector], seed: int) -> np.ndarray:
    """[draws, points, objectives]."""
    centre = np.array(means, dtype=np.float64)
    noise = np.random.default_rng(seed).standard_normal((DRAWS, *centre.shape))
    return np.asarray(centre + noise * np.array(deviations, dtype=np.float64))


def _differences(front: Sequence[Vector], target: Sequence[Vector]) -> np.ndarray:
    """[front, target, objectives]: a - z."""
    return np.asarray(np.array(front, dtype=float)[:, None] - np.array(target, dtype=float)[None])
