"""Which candidates would grow a front most: greedy choice by hypervolume.

    next = argmax_a  HV(F + {a}) - HV(F),   then F <- F + {a}

Objectives are stretched to [0, 1] over the results so far; the reference point lies 10 % beyond the worst.
Source: evaluators_and_search.md 12.8, 13.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np

from ..pareto import Vector, front, nondominated_ranks

REFERENCE = 1.1


@dataclass(frozen=True, slots=True)
class Growth:
    """A front on a fixed scale."""

    low: np.ndarray
    extent: np.ndarray
    reached: np.ndarray
    """Scaled."""

    @classmethod
    def over(cls, results: Sequence[Vector], best: Sequence[Vector]) -> "Growth":
        """The scale of all results; `best`: what is reached already."""
        matrix = np.array(results, dtype=np.float64)
        low, extent = matrix.min(axis=0), np.ptp(matrix, axis=0)
        extent = np.where(extent > 0, extent, 1.0)
        kept = [best[index] for index in front(best)]
        scaled = (np.array(kept, dtype=np.float64).reshape(-1, matrix.shape[1]) - low) / extent
        return cls(low, extent, scaled)

    def greedy(self, candidates: np.ndarray, count: int) -> list[int]:
        """Indices of `count` candidates in the order of choice; those that add nothing come last, nearest to
        the front first.
        """
        points = (candidates - self.low) / self.extent
        ranks = nondominated_ranks([tuple(row) for row in points.tolist()])
        left = [index for index, rank in enumerate(ranks) if rank == 0]
        reached, order = self.reached, list[int]()
        while left and len(order) < count:
            gains = self._gains(reached, points[left])
            best = int(np.argmax(gains))
            if gains[best] <= 0:
                break
            order.append(left.pop(best))
            reached = np.vstack([reached, points[order[-1]]])
        if len(order) == count:
            return order
        chosen = set(order)
        rest = [index for index in range(len(points)) if index not in chosen]
        order += sorted(rest, key=lambda index: (ranks[index], _shortfall(reached, points[index]), index))
        return order[:count]

    def best_gain(self, candidates: np.ndarray) -> float | None:
        """The largest hypervolume that one of them adds, as a fraction of what is reached; None where nothing
        is.
        """
        now = self._volume(self.reached)
        if now <= 0 or not len(candidates):
            return None
        points = (candidates - self.low) / self.extent
        return max(0.0, float(self._gains(self.reached, points).max())) / now

    def _volume(self, some: np.ndarray) -> float:
        reference = [REFERENCE] * some.shape[1]
        return float(moocore.hypervolume(some, ref=reference)) if len(some) else 0.0

    def _gains(self, reached: np.ndarray, points: np.ndarray) -> np.ndarray:
        now = self._volume(reached)
        return np.array([self._volume(np.vstack([reached, point])) - now for point in points])


def _shortfall(reached: np.ndarray, point: np.ndarray) -> float:
    """How much worse the point is than the front: the least over the front of its largest excess."""
    if not len(reached):
        return 0.0
    return float((point - reached).max(axis=1).min())
