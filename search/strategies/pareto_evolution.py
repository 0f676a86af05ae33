"""Pareto evolution: everything comes from the front of all results.

    of |F| + 5 + 5 turns: a mutation of each member of the front F, 5 crossovers of pairs, 5 fresh samples

Source: Javaheripi et al. 2022, arXiv:2203.02094 (LiteTransformerSearch). Without iterations: every trial
draws its turn with these shares; of a front larger than 100 the members with the largest hypervolume.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from space.architecture import Architecture
from space.sampling import crossover, mutate, sample
from space.search_space import SearchSpace

from .nsga2 import WARM_UP, survivors
from .strategy import Proposal, Told, stream

CROSSOVERS = FRESH = 5
LARGEST = 100


@dataclass(frozen=True)
class ParetoEvolution:
    """Evolution from the front alone."""

    space: SearchSpace
    seed: int
    objectives: tuple[str, ...]
    """Objective keys; logarithmic ones are compared by their logarithm."""

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """Random until `WARM_UP` results are in; failed trials teach nothing. Does not look at pending."""
        rng = stream(self.seed, number, draw)
        members = survivors(history, self.objectives, LARGEST)
        if len(members) < WARM_UP and sum(told.objectives is not None for told in history) < WARM_UP:
            return Proposal(sample(self.space, rng), origin="random")
        best = [member.told for member in members if member.rank == 0]
        turn = rng.randrange(len(best) + CROSSOVERS + FRESH)
        if turn < len(best):
            parent = best[turn]
            child = mutate(self.space, parent.architecture, rng)
            return Proposal(child, origin="mutation", parents=(parent.number,))
        if turn < len(best) + CROSSOVERS and len(best) > 1:
            mother, father = rng.sample(best, 2)
            child = crossover(self.space, mother.architecture, father.architecture, rng)
            return Proposal(child, origin="crossover", parents=(mother.number, father.number))
        return Proposal(sample(self.space, rng), origin="random")
