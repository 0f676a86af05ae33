"""Local search: the unseen one-gene neighbours of the front, in random order.

Source: evaluators_and_search.md 12.13; White et al. 2021, arXiv:2005.02960. As a strategy of its own it is
the baseline that says what a model or a population adds; the end of every other search is polished alike
(`search.polish`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from space.architecture import Architecture
from space.sampling import neighbours, sample
from space.search_space import SearchSpace

from .nsga2 import WARM_UP, survivors
from .strategy import Proposal, Told, stream

LARGEST = 40
"""Members of the front that are looked around."""


@dataclass(frozen=True)
class LocalSearch:
    """Hill climbing on a front."""

    space: SearchSpace
    seed: int
    objectives: tuple[str, ...]
    """Objective keys; logarithmic ones are compared by their logarithm."""

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """Random until `WARM_UP` results are in, and when every neighbour of the front is known."""
        rng = stream(self.seed, number, draw)
        known = [told for told in history if told.objectives is not None]
        if len(known) >= WARM_UP:
            seen = {told.architecture.id for told in known} | {one.id for one in pending}
            best = [m.told for m in survivors(known, self.objectives, LARGEST) if m.rank == 0]
            rng.shuffle(best)
            for parent in best:
                moves = neighbours(self.space, parent.architecture)
                rng.shuffle(moves)
                for move in moves:
                    if move.id not in seen:
                        return Proposal(move, origin="mutation", parents=(parent.number,))
        return Proposal(sample(self.space, rng), origin="random")
