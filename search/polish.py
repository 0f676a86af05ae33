"""The last proposals of a budget: local search from the front (evaluators_and_search.md 12.13).

    between   one-gene neighbours of two members next to each other that lie between them: first the widest
              gap that nothing pending lies in, and there the mixers of the two in another depth or width
    format    members in the other number formats, which need no training of their own
    around    one-gene neighbours of members

Places of the polish begin with a gap and with a format in turn; what one kind cannot give, the next gives.
The gap of members a and b, sorted by MACs: hypot(first objective, log MACs), both stretched to [0, 1] over
the front. MACs stand for whatever cost the job minimises: they are known before anything is measured.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

from space.architecture import Architecture
from space.batch_costs import CostTable
from space.quantization import NumberFormat
from space.sampling import neighbours
from space.search_space import SearchSpace

from .pareto import front, unit
from .strategies.strategy import Proposal, Told, stream

SHARE = 0.1
SHORTEST = 8
"""Trials that polish has at least, as long as they are no more than a third of the budget."""


def polish_trials(budget: int) -> int:
    """How many of a job's trials polish has.

    >>> polish_trials(24), polish_trials(6), polish_trials(200)
    (8, 2, 20)
    """
    return max(int(budget * SHARE), min(SHORTEST, budget // 3))


@dataclass(frozen=True, slots=True)
class Polish:
    """One place of the polish: what is known, and what may be proposed."""

    space: SearchSpace
    history: Sequence[Told]
    pending: Sequence[Architecture]
    is_new: Callable[[Architecture], bool]
    """Neither seen nor over a static limit."""
    seed: int
    number: int

    def proposals(self, count: int) -> list[Proposal]:
        """Up to `count` distinct ones; none when the front has nothing new around it."""
        members = self._members()
        kinds = [self._between, self._format, self._around]
        if self.number % 2:
            kinds[:2] = self._format, self._between
        for kind in kinds:
            if found := kind(members, count):
                return found
        return []

    def _members(self) -> list[Told]:
        """The front, in a seeded order."""
        complete = [told for told in self.history if told.complete and told.feasible and told.objectives]
        best = [complete[index] for index in front([told.objectives or () for told in complete])]
        best.sort(key=lambda told: told.number)
        stream(self.seed, "polish", self.number).shuffle(best)
        return best

    def _between(self, members: Sequence[Told], count: int) -> list[Proposal]:
        underway = _log_macs(self.pending)
        gaps = _gaps(members)
        gaps.sort(key=lambda gap: any(gap[2][0] < one < gap[2][1] for one in underway))
        for low, high, ends in gaps:
            moves = [
                (told, move) for told in (low, high) for move in neighbours(self.space, told.architecture)
            ]
            sizes = _log_macs([move for _, move in moves])
            inside = [
                (told, move, size)
                for (told, move), size in zip(moves, sizes, strict=True)
                if ends[0] < size < ends[1] and self.is_new(move)
            ]
            known = _mixers(low.architecture) | _mixers(high.architecture)
            middle = sum(ends) / 2
            inside.sort(
                key=lambda one: (
                    not _mixers(one[1]) <= known,
                    _size(one[1]) == _size(one[0].architecture),
                    abs(one[2] - middle),
                )
            )
            note = f"between {_name(low)} and {_name(high)}"
            found = {move.id: Proposal(move, "mutation", (told.number,), note) for told, move, _ in inside}
            if found:
                return list(found.values())[:count]
        return []

    def _format(self, members: Sequence[Told], count: int) -> list[Proposal]:
        """One at a time: the next is chosen when this one is known."""
        del count
        offered = [name for name in get_args(NumberFormat) if name in self.space.domains.number_format]
        for told in members:
            for name in offered:
                other = told.architecture.with_number_format(name)
                if self.space.contains(other) and self.is_new(other):
                    return [Proposal(other, "mutation", (told.number,), "another number format")]
        return []

    def _around(self, members: Sequence[Told], count: int) -> list[Proposal]:
        rng = stream(self.seed, "neighbours", self.number)
        found: dict[str, Proposal] = {}
        for told in members:
            if len(found) == count:  # the neighbours of one architecture take as long as hundreds of samples
                break
            moves = neighbours(self.space, told.architecture)
            rng.shuffle(moves)
            for move in moves:
                if move.id not in found and self.is_new(move):
                    found[move.id] = Proposal(move, "mutation", (told.number,), "neighbour of the front")
                    break
        return list(found.values())


def _gaps(members: Sequence[Told]) -> list[tuple[Told, Told, tuple[float, float]]]:
    """Members next to each other in MACs and their log MACs, widest gap first; of equal MACs the best in the
    first objective.
    """
    sizes = _log_macs([told.architecture for told in members])
    points = [((told.objectives or ())[0], size) for told, size in zip(members, sizes, strict=True)]
    placed = sorted(zip(unit(points), members, sizes, strict=True), key=lambda one: (one[0][1], one[0][0]))
    distinct = [one for k, one in enumerate(placed) if k == 0 or one[0][1] > placed[k - 1][0][1]]
    widest = sorted(pairwise(distinct), key=lambda pair: -math.dist(pair[0][0], pair[1][0]))
    return [(low[1], high[1], (low[2], high[2])) for low, high in widest]


def _log_macs(architectures: Sequence[Architecture]) -> list[float]:
    """All at once: the neighbours of one architecture are hundreds, and their layers mostly the same."""
    if not architectures:
        return []
    return [math.log(macs) for macs in CostTable().costs(architectures)["macs"]]


def _name(told: Told) -> str:
    return str(told.number) if told.number >= 0 else "an earlier job's"


def _size(architecture: Architecture) -> tuple[int, int]:
    return len(architecture.layers), architecture.d_model


def _mixers(architecture: Architecture) -> set[str]:
    return {layer.mixer.kind for layer in architecture.layers}
