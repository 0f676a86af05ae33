"""NSGA-III without generations: reference directions keep a front of many objectives spread out.

    directions   all k-vectors of multiples of 1/p that sum to 1 (Das and Dennis)
    survival     whole ranks while they fit; of the next, again and again the direction with the fewest
                 survivors takes its nearest point, nearest meaning perpendicular distance

Objectives are normalised by the ideal point and by where the plane through the extreme points cuts the axes.
For four objectives and more; below, NSGA-II is preferred. Source: Deb and Jain 2014,
doi:10.1109/TEVC.2013.2281535; ties by number instead of chance, so that the population is a function of the
results.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

import numpy as np

from space.architecture import Architecture
from space.sampling import sample
from space.search_space import SearchSpace

from ..pareto import Vector
from .nsga2 import WARM_UP, breed, survivors
from .strategy import Proposal, Told, stream

DIVISIONS = {1: 1, 2: 39, 3: 12, 4: 6, 5: 4, 6: 4}
"""Objectives -> p; beyond, 3."""


@dataclass(frozen=True)
class Nsga3:
    """Asynchronous NSGA-III."""

    space: SearchSpace
    seed: int
    objectives: tuple[str, ...]
    """Objective keys; logarithmic ones are compared by their logarithm."""

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """Random until `WARM_UP` results are in; failed trials teach nothing. Does not look at pending."""
        rng = stream(self.seed, number, draw)
        members = survivors(history, self.objectives, len(directions(len(self.objectives))), by_niche)
        if len(members) < WARM_UP:
            return Proposal(sample(self.space, rng), origin="random")
        return breed(self.space, members, rng)


@lru_cache(maxsize=8)
def directions(objectives: int) -> np.ndarray:
    """One direction a row.

    >>> len(directions(3)), len(directions(4))
    (91, 84)
    """
    divisions = DIVISIONS.get(objectives, 3)
    return np.array(list(_shares(divisions, objectives)), dtype=np.float64) / divisions


def _shares(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to write `total` as an ordered sum of `parts` numbers (bars between stars)."""
    for bars in combinations(range(total + parts - 1), parts - 1):
        ends = (-1, *bars, total + parts - 1)
        yield tuple(b - a - 1 for a, b in pairwise(ends))


def by_niche(kept: Sequence[Vector], level: Sequence[Vector], count: int) -> list[int]:
    """Indices of the `count` points of a rank that the emptiest directions take."""
    if count >= len(level):
        return list(range(len(level)))
    points = normalised(np.array([*kept, *level], dtype=np.float64))
    niche, distance = associated(points, directions(points.shape[1]))
    crowd = np.bincount(niche[: len(kept)], minlength=len(directions(points.shape[1])))
    left = list(range(len(level)))
    chosen: list[int] = []
    while len(chosen) < count:
        best = min(
            left, key=lambda index: (crowd[niche[len(kept) + index]], distance[len(kept) + index], index)
        )
        crowd[niche[len(kept) + best]] += 1
        left.remove(best)
        chosen.append(best)
    return sorted(chosen)


def normalised(points: np.ndarray) -> np.ndarray:
    """0 at the ideal point, 1 where the plane through the extreme points cuts an axis; where there is no such
    plane, 1 at the worst point.
    """
    shifted = points - points.min(axis=0)
    worst = np.where(shifted.max(axis=0) > 0, shifted.max(axis=0), 1.0)
    scaled = shifted / worst
    count = points.shape[1]
    extremes = [
        int(np.argmin((scaled / np.where(np.arange(count) == axis, 1.0, 1e-6)).max(axis=1)))
        for axis in range(count)
    ]
    corners = scaled[extremes]
    if np.linalg.matrix_rank(corners) < count:
        return np.asarray(scaled)
    plane = np.linalg.solve(corners, np.ones(count))
    return np.asarray(scaled * plane) if (plane > 0).all() else np.asarray(scaled)


def associated(points: np.ndarray, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest direction of every point, and the perpendicular distance from it."""
    units = lines / np.linalg.norm(lines, axis=1, keepdims=True)
    along = points @ units.T
    away = np.sqrt(np.maximum((points**2).sum(axis=1, keepdims=True) - along**2, 0.0)).round(12)
    niche = away.argmin(axis=1)
    return niche, away[np.arange(len(points)), niche]
