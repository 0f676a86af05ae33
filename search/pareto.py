"""Dominance, non-dominated sorting, crowding and truncation. Every component of a vector is minimised.

    a dominates b   iff   a_i <= b_i for all i and a_j < b_j for some j with constraints: a feasible point
    beats an infeasible one, of two infeasible ones the smaller violation wins, of two feasible ones dominance
    decides

Source: Deb et al. 2002 (NSGA-II), doi:10.1109/4235.996017. The filter and the ranks are moocore's; the
definitions stand beside them and are tested against them.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import moocore
import numpy as np

from space.errors import InvalidInputError

from .objectives import OBJECTIVES

Vector = Sequence[float]
BEYOND = 1.1
"""Each coordinate of the reference point of points that are stretched to [0, 1]."""


def dominates(a: Vector, b: Vector) -> bool:
    """Nowhere worse and somewhere better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def constrained_dominates(a: Vector, a_violation: float, b: Vector, b_violation: float) -> bool:
    """Dominance where a violation of 0 is feasible; among infeasible points only the violation counts."""
    if a_violation > 0 or b_violation > 0:
        return a_violation < b_violation
    return dominates(a, b)


def front(vectors: Sequence[Vector]) -> list[int]:
    """Indices of the points no other point dominates, ascending; of equal points the first is kept."""
    if not vectors:
        return []
    kept = moocore.is_nondominated(_matrix(vectors), keep_weakly=True)
    seen: set[tuple[float, ...]] = set()
    indices = []
    for index in np.flatnonzero(kept).tolist():
        vector = tuple(vectors[index])
        if vector not in seen:
            seen.add(vector)
            indices.append(index)
    return indices


def nondominated_ranks(vectors: Sequence[Vector]) -> list[int]:
    """0 for the front, 1 for the front of the rest, and so on; equal points share a rank."""
    ranks: list[int] = moocore.pareto_rank(_matrix(vectors)).astype(int).tolist() if vectors else []
    return ranks


def nondominated_ranks_by_definition(vectors: Sequence[Vector]) -> list[int]:
    """The definition, O(N^3)."""
    ranks = [-1] * len(vectors)
    rank = 0
    while -1 in ranks:
        left = [index for index, known in enumerate(ranks) if known == -1]
        best = [i for i in left if not any(dominates(vectors[j], vectors[i]) for j in left)]
        for index in best:
            ranks[index] = rank
        rank += 1
    return ranks


def constrained_ranks(vectors: Sequence[Vector], violations: Sequence[float]) -> list[int]:
    """Ranks by constrained domination: the feasible fronts, then one rank per violation, smallest first."""
    if max(violations, default=0.0) <= 0:
        return nondominated_ranks(vectors)
    feasible = [index for index, violation in enumerate(violations) if violation <= 0]
    ranks = [0] * len(vectors)
    for index, rank in zip(feasible, nondominated_ranks([vectors[i] for i in feasible]), strict=True):
        ranks[index] = rank
    next_rank = 1 + max((ranks[index] for index in feasible), default=-1)
    levels = {level: k for k, level in enumerate(sorted({v for v in violations if v > 0}))}
    for index, violation in enumerate(violations):
        if violation > 0:
            ranks[index] = next_rank + levels[violation]
    return ranks


def crowding(vectors: Sequence[Vector]) -> list[float]:
    """Sum over the objectives of the gap between a point's neighbours, as a share of the range; ends are
    infinite.
    """
    distance = [0.0] * len(vectors)
    for axis in range(len(vectors[0]) if vectors else 0):
        order = sorted(range(len(vectors)), key=lambda index: (vectors[index][axis], index))
        extent = vectors[order[-1]][axis] - vectors[order[0]][axis]
        distance[order[0]] = distance[order[-1]] = math.inf
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            if extent > 0:
                distance[here] += (vectors[after][axis] - vectors[before][axis]) / extent
    return distance


def farthest_order(vectors: Sequence[Vector]) -> list[int]:
    """Indices so that every prefix covers the points well.

    First the best point of each objective, then, again and again, the point farthest from all chosen ones
    (every objective stretched to [0, 1]); the earlier index wins a tie.
    """
    points = unit(vectors)
    left = list(range(len(points)))
    order: list[int] = []
    for axis in range(len(points[0]) if points else 0):
        best = min(left, key=lambda index: (_from_axis(points[index], axis), index), default=None)
        if best is None or any(points[i][axis] <= points[best][axis] for i in order):
            continue  # an earlier choice is as good on this axis
        order.append(best)
        left.remove(best)
    gap = {index: min(math.dist(points[index], points[chosen]) for chosen in order) for index in left}
    while gap:
        chosen = max(gap, key=lambda index: (gap[index], -index))
        order.append(chosen)
        del gap[chosen]
        gap = {index: min(d, math.dist(points[index], points[chosen])) for index, d in gap.items()}
    return order


def least_contribution_last(vectors: Sequence[Vector], count: int) -> list[int]:
    """Which `count` mutually non-dominated points to keep: the one with the least hypervolume of its own goes
    first.

    The best point of each objective stays while there is room for all of these. The reference point lies 10 %
    beyond the worst of the points (each objective stretched to [0, 1]).
    """
    if len(vectors) <= count:
        return list(range(len(vectors)))
    points = unit(vectors)
    order = sorted(range(len(points)), key=points.__getitem__)
    steps = [points[index] for index in order]
    if all(len(a) == 2 and a[0] < b[0] and a[1] > b[1] for a, b in pairwise(steps)):
        return sorted(order[place] for place in _thinned_stairs(steps, order, count))
    return thinned_by_contribution(points, count)


def thinned_by_contribution(points: Sequence[Vector], count: int) -> list[int]:
    """The definition of `least_contribution_last`, for points in [0, 1] of any kind."""
    kept = list(range(len(points)))
    ends = {
        min(kept, key=lambda index: (_from_axis(points[index], axis), index))
        for axis in range(len(points[0]) if points else 0)
    }
    while len(kept) > count:
        matrix = np.array([points[index] for index in kept])
        own = moocore.hv_contributions(matrix, np.full(matrix.shape[1], BEYOND))
        if count >= len(ends):
            own[[index in ends for index in kept]] = np.inf
        worst = int(np.flatnonzero(own == own.min())[-1])  # of equals the newest goes
        del kept[worst]
    return kept


def _thinned_stairs(steps: Sequence[Vector], order: Sequence[int], count: int) -> list[int]:
    """The same for stairs that lead down: a step's own volume is a rectangle between its neighbours, and two
    of them change as one goes. `order`: how new each step is."""
    kept = list(range(len(steps)))

    def own(place: int) -> float:
        """Of the step at this place of `kept`."""
        x, y = steps[kept[place]]
        top = steps[kept[place - 1]][1] if place > 0 else BEYOND
        right = steps[kept[place + 1]][0] if place + 1 < len(kept) else BEYOND
        return (right - x) * (top - y)

    volumes = [own(place) for place in range(len(kept))]
    while len(kept) > count:
        places = range(1, len(kept) - 1) if count >= 2 else range(len(kept))
        worst = min(places, key=lambda place: (volumes[place], -order[kept[place]]))
        del kept[worst], volumes[worst]
        for place in (worst - 1, worst):
            if 0 <= place < len(kept):
                volumes[place] = own(place)
    return kept


def contribution_order(vectors: Sequence[Vector]) -> list[int]:
    """Indices of mutually non-dominated points: the best of each objective, then those with the largest
    hypervolume of their own; the earlier index wins a tie. Reference point as in `least_contribution_last`.
    """
    points = unit(vectors)
    if not points:
        return []
    matrix = np.array(points)
    own = moocore.hv_contributions(matrix, np.full(matrix.shape[1], BEYOND))
    indices = range(len(points))
    ends = [min(indices, key=lambda i: (_from_axis(points[i], axis), i)) for axis in range(matrix.shape[1])]
    rest = sorted(set(indices) - set(ends), key=lambda i: (-own[i], i))
    return [*dict.fromkeys(ends), *rest]


def log_scaled(vector: Vector, keys: Sequence[str]) -> tuple[float, ...]:
    """A minimised vector with the natural logarithm of every component whose objective is logarithmic."""
    return tuple(_log(x, key) if OBJECTIVES[key].log else x for x, key in zip(vector, keys, strict=True))


def violation(values: Mapping[str, float], limits: Mapping[str, float]) -> float:
    """Sum over the limits of the relative excess; 0 when every known value keeps its limit."""
    return sum(max(0.0, values[key] / limit - 1) for key, limit in limits.items() if key in values)


def _log(value: float, key: str) -> float:
    if not value > 0:
        raise InvalidInputError(f"{key}={value:g} must be greater than 0: it is compared by its logarithm")
    return math.log(value)


def _matrix(vectors: Sequence[Vector]) -> np.ndarray:
    matrix = np.array(vectors, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise InvalidInputError(
            "an objective vector is not finite; leave failed trials out of the comparison"
        )
    return matrix


def unit(vectors: Sequence[Vector]) -> list[tuple[float, ...]]:
    """Every objective stretched to [0, 1] over the given points."""
    if not vectors:
        return []
    matrix = _matrix(vectors)
    low = matrix.min(axis=0)
    extent = matrix.max(axis=0) - low
    return [tuple(row) for row in ((matrix - low) / np.where(extent > 0, extent, 1.0)).tolist()]


def _from_axis(point: Sequence[float], axis: int) -> tuple[float, ...]:
    """The components in the order axis, axis + 1, ..., so that tuples compare by `axis` first."""
    return (*point[axis:], *point[:axis])
