"""Stratified random search: structured samples, spread evenly over size.

Uniform over genes is not uniform over size: most samples have nearly the same number of parameters. The range
of log parameters, as `SURVEY` samples drawn once show it, is cut into tenths; of `TRIED` samples the one is
taken whose tenth holds the fewest architectures so far.

Source: evaluators_and_search.md 12.3.
"""

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from space.architecture import Architecture
from space.batch_costs import CostTable
from space.sampling import sample
from space.search_space import SearchSpace

from .strategy import Proposal, Told, stream

SURVEY, STRATA, TRIED = 100, 10, 5


@dataclass(frozen=True)
class Stratified:
    """Random search with as many small and large architectures as middling ones."""

    space: SearchSpace
    seed: int
    _known: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    """Architecture id -> tenth it lies in: every ask looks at every result."""

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """Looks at the sizes of results and pending architectures, at no value."""
        rng = stream(self.seed, number, draw)
        drawn = [sample(self.space, rng) for _ in range(TRIED)]
        known = [told.architecture for told in history if told.objectives is not None]
        held = self.strata([*known, *pending])
        there = self.strata(drawn)
        chosen = min(range(TRIED), key=lambda index: (held.count(there[index]), index))
        return Proposal(drawn[chosen], origin="random", note="stratified by size")

    def strata(self, architectures: Sequence[Architecture]) -> list[int]:
        """0 (smallest) ... STRATA - 1 of every architecture."""
        new = {one.id: one for one in architectures if one.id not in self._known}
        for id_, size in zip(new, _params(list(new.values())), strict=True):
            self._known[id_] = bisect(self._borders, size)
        return [self._known[one.id] for one in architectures]

    @cached_property
    def _borders(self) -> list[int]:
        """Between the tenths."""
        rng = stream(self.seed, "survey")
        sizes = _params([sample(self.space, rng) for _ in range(SURVEY)])
        least, ratio = min(sizes), max(sizes) / min(sizes)
        return [round(least * ratio ** (k / STRATA)) for k in range(1, STRATA)]


def _params(architectures: Sequence[Architecture]) -> list[int]:
    return [int(n) for n in CostTable().costs(architectures)["params"]]
