"""NSGA-II on a model: thousands of architectures judged in a second, none of them trained.

Source: Deb et al. 2002, doi:10.1109/4235.996017; evaluators_and_search.md 12.8. Smaller than published (30
generations of 100): drawing and encoding a child costs a millisecond or more, and the start is the front that
earlier evolutions have led to, so generations add up over a job.
"""

import random
from collections.abc import Callable, Sequence

import numpy as np

from space.architecture import Architecture
from space.search_space import SearchSpace

from ..pareto import constrained_ranks, crowding
from .moves import child_of

Judge = Callable[[Sequence[Architecture]], tuple[np.ndarray, np.ndarray]]
"""Architectures -> values to minimise (one row each) and violations (0: feasible)."""


def evolve(
    space: SearchSpace,
    start: Sequence[Architecture],
    judge: Judge,
    rng: random.Random,
    *,
    generations: int,
    size: int,
) -> list[Architecture]:
    """Every distinct architecture that was judged, the start first."""
    seen = {one.id: one for one in start}
    members = list(seen.values())
    values, violations = judge(members)
    members, values, violations = _survive(members, values, violations, size)
    for _ in range(generations):
        children: dict[str, Architecture] = {}
        for _ in range(2 * size):
            # members come best first: the earlier of two draws wins the tournament
            mother, father = (members[min(rng.randrange(len(members)) for _ in "ab")] for _ in "mf")
            child = child_of(space, mother, father, rng)
            if child.id not in seen:
                children[child.id] = seen[child.id] = child
            if len(children) == size:
                break
        if not children:
            break
        born = list(children.values())
        found, broken = judge(born)
        members, values, violations = _survive(
            [*members, *born], np.vstack([values, found]), np.concatenate([violations, broken]), size
        )
    return list(seen.values())


def _survive(
    members: Sequence[Architecture], values: np.ndarray, violations: np.ndarray, size: int
) -> tuple[list[Architecture], np.ndarray, np.ndarray]:
    """The best by (rank, crowding), best first."""
    vectors = [tuple(row) for row in values.tolist()]
    ranks = constrained_ranks(vectors, violations.tolist())
    order: list[int] = []
    for rank in range(max(ranks) + 1):
        level = [index for index, known in enumerate(ranks) if known == rank]
        gaps = crowding([vectors[index] for index in level])
        order += [index for _, index in sorted(zip((-gap for gap in gaps), level, strict=True))]
        if len(order) >= size:
            break
    order = order[:size]
    return [members[index] for index in order], values[order], violations[order]
