"""Random search: structured samples of the space, and nothing learned. The baseline of every other
strategy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from space.architecture import Architecture
from space.sampling import sample
from space.search_space import SearchSpace

from .strategy import Proposal, Told, stream


@dataclass(frozen=True)
class RandomSearch:
    """Draws shared levels first (depth, width, mixers), then lets layers deviate
    (`space.sampling.sample`).
    """

    space: SearchSpace
    seed: int

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """Looks at neither history nor pending."""
        return Proposal(sample(self.space, stream(self.seed, number, draw)), origin="random")
