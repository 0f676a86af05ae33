"""Regularized evolution: the child of the best of a small sample of the newest results.

    queue = the P newest results;  parent = best of S drawn from it, by (rank, crowding);  child = mutation

What is old leaves however good it was, so a lucky measurement does not breed for ever. Source: Real et al.
2019, arXiv:1802.01548, algorithm 1; rank and crowding in the place of accuracy for several objectives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from space.architecture import Architecture
from space.sampling import mutate, sample
from space.search_space import SearchSpace

from .nsga2 import WARM_UP, survivors
from .strategy import Proposal, Told, stream


@dataclass(frozen=True)
class RegularizedEvolution:
    """Ageing evolution for several objectives."""

    space: SearchSpace
    seed: int
    objectives: tuple[str, ...]
    """Objective keys; logarithmic ones are compared by their logarithm."""
    queue: int = 100
    rivals: int = 10

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """Random until `WARM_UP` results are in; failed trials teach nothing. Does not look at pending."""
        rng = stream(self.seed, number, draw)
        known = sorted((one for one in history if one.objectives is not None), key=lambda one: one.number)
        if len(known) < WARM_UP:
            return Proposal(sample(self.space, rng), origin="random")
        newest = known[-self.queue :]
        drawn = rng.sample(newest, min(self.rivals, len(newest)))
        parent = min(survivors(drawn, self.objectives, len(drawn)), key=lambda member: member.fitness).told
        child = mutate(self.space, parent.architecture, rng)
        return Proposal(child, origin="mutation", parents=(parent.number,))
