"""What stands around every strategy: order of the proposals, duplicates, static constraints, exhaustion.

    number 0, 1, ...   enqueued | an earlier job's front | homogeneous family | the strategy | polish

The family takes at most a third of the budget.

Polish is local search from the front (`search.polish`).

A proposal of a seen architecture is mutated again, more strongly each time; then the nearest unseen neighbour
is taken; when there is none, the space is exhausted. All of it is a pure function of (seed, number, round,
history, pending).
"""

import logging
import random
from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

from space.architecture import Architecture
from space.constraints import repair, violations
from space.errors import ServiceError
from space.sampling import homogeneous_family, mutate, neighbours, sample
from space.search_space import SearchSpace

from .polish import Polish, polish_trials
from .strategies.strategy import Proposal, Strategy, Told, stream

log = logging.getLogger(__name__)

ATTEMPTS = 20
"""Mutations of one proposal before its neighbours are searched."""
MAX_VISITED = 4000
"""Architectures looked at for an unseen neighbour before the search for one is given up."""
START_SHARE = 1 / 3
"""Largest share of the budget that the homogeneous family takes."""
START_MOST = 24
"""Largest number of them: enough for a model to begin with, which then chooses the next ones itself."""


class SpaceExhausted(ServiceError):
    """No unseen architecture that keeps the constraints was found."""

    code = "space_exhausted"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Distinct proposals for one trial number, all new and within the static limits, and what was thrown
    away.
    """

    proposals: tuple[Proposal, ...]
    duplicates: int = 0
    infeasible: int = 0
    strategy_errors: int = 0


@dataclass(frozen=True, slots=True)
class _Question:
    """What the strategy is asked."""

    number: int
    draw: int
    history: Sequence[Told]
    pending: Sequence[Architecture]


@dataclass(frozen=True, slots=True)
class _Seen:
    """Ids not to be proposed again; those of a long job's results are not copied for every question."""

    told: AbstractSet[str]
    more: set[str]

    def __contains__(self, id: str) -> bool:
        return id in self.more or id in self.told

    def __len__(self) -> int:
        return len(self.told | self.more)

    def add(self, id: str) -> None:
        self.more.add(id)


@dataclass(slots=True)
class _Tally:
    duplicates: int = 0
    infeasible: int = 0
    strategy_errors: int = 0


@dataclass(frozen=True)
class Proposer:
    """The proposals of one job."""

    strategy: Strategy
    space: SearchSpace
    seed: int = field(kw_only=True)
    budget: int = field(kw_only=True)
    """Trials of the job."""
    enqueued: tuple[Architecture, ...] = field(default=(), kw_only=True)
    """Tried first, as they are; those that break a static limit are passed over."""
    earlier: tuple[Architecture, ...] = field(default=(), kw_only=True)
    """The front of an earlier job, tried next."""
    earlier_note: str = field(default="", kw_only=True)
    limits: Mapping[str, float] = field(default_factory=dict, kw_only=True)
    """Closed-form costs (`space.constraints.STATIC_KEYS`) -> largest value."""
    batch_size: int = field(default=1, kw_only=True)
    tokens: int | None = field(default=None, kw_only=True)
    """Per sequence, for the costs that are limited; the full context by default."""

    def candidates(
        self,
        number: int,
        count: int,
        history: Sequence[Told],
        pending: Sequence[Architecture],
        *,
        round: int = 0,
        known: AbstractSet[str] | None = None,
    ) -> Candidates:
        """Up to `count` proposals for trial `number`; exactly one while enqueued and homogeneous ones are
        left.

        `round`: asked again for the same number, because every candidate of the round before was turned down.
        `known`: ids that count as seen in place of those of `history`, which may leave old results out.

        Raises:
            SpaceExhausted: there is not one.
        """
        told = {told.architecture.id for told in history} if known is None else known
        seen = _Seen(told, {architecture.id for architecture in pending})
        if round == 0 and (fixed := self._fixed(number, seen)) is not None:
            return Candidates((fixed,))
        is_late = self.budget - polish_trials(self.budget) <= number < self.budget
        if round == 0 and is_late:

            def is_new(architecture: Architecture) -> bool:
                return architecture.id not in seen and self._keeps_limits(architecture)

            polish = Polish(self.space, history, pending, is_new, self.seed, number)
            if polished := polish.proposals(count):
                return Candidates(tuple(polished))
        found: list[Proposal] = []
        tally = _Tally()
        for draw in range(round * count, round * count + count):
            drawn = [proposal.architecture for proposal in found]
            question = _Question(number, draw, history, [*pending, *drawn])
            try:
                found.append(self._new(question, seen, tally))
            except SpaceExhausted:
                if not found:
                    raise
                break
            seen.add(found[-1].architecture.id)
        return Candidates(tuple(found), tally.duplicates, tally.infeasible, tally.strategy_errors)

    def _fixed(self, number: int, seen: _Seen) -> Proposal | None:
        """The enqueued or homogeneous proposal of this number, or the next one after it that is new."""
        first = len(self._enqueued)
        for architecture in self._enqueued[number:]:
            if architecture.id not in seen:
                if architecture.id in self._given:
                    return Proposal(architecture, origin="enqueued")
                return Proposal(architecture, origin="earlier", note=self.earlier_note)
        for architecture in self._start[max(0, number - first) :]:
            if architecture.id not in seen:
                return Proposal(architecture, origin="start", note="homogeneous family")
        return None

    @cached_property
    def _enqueued(self) -> tuple[Architecture, ...]:
        distinct = {architecture.id: architecture for architecture in (*self.enqueued, *self.earlier)}
        return tuple(one for one in distinct.values() if self._keeps_limits(one))

    @cached_property
    def _given(self) -> frozenset[str]:
        return frozenset(one.id for one in self.enqueued)

    @cached_property
    def _start(self) -> tuple[Architecture, ...]:
        places = min(int(self.budget * START_SHARE), START_MOST)
        family = homogeneous_family(self.space) if places else ()
        return tuple(islice((one for one in family if self._keeps_limits(one)), places))

    def _new(self, question: _Question, seen: _Seen, tally: _Tally) -> Proposal:
        """The strategy's proposal, mended until it is new and within the limits."""
        rng = stream(self.seed, "proposer", question.number, question.draw)
        asked = self._ask(question, tally)
        candidate = asked.architecture
        for attempt in range(ATTEMPTS + 1):
            legal = self._legal(candidate, rng)
            if legal is None:
                tally.infeasible += 1
            elif legal.id in seen:
                tally.duplicates += 1
            else:
                return _mended(asked, legal, f"mutation {attempt} of it" if attempt else "repaired")
            candidate = mutate(self.space, asked.architecture, rng, rate=1 + attempt / 2)
        return _mended(asked, self._nearest_unseen(asked.architecture, seen), "nearest unseen neighbour")

    def _ask(self, question: _Question, tally: _Tally) -> Proposal:
        """A strategy that fails must not end a job: its trial gets a random proposal (faults.md F55)."""
        number, draw = question.number, question.draw
        try:
            return self.strategy.ask(number, question.history, question.pending, draw=draw)
        except Exception as error:  # the strategy may be a library of others
            log.exception("strategy failed", extra={"trial": number})
            tally.strategy_errors += 1
            note = f"strategy failed: {type(error).__name__}"
            return Proposal(
                sample(self.space, stream(self.seed, "fallback", number, draw)), "random", note=note
            )

    def _keeps_limits(self, architecture: Architecture) -> bool:
        return not violations(architecture, self.limits, self.batch_size, self.tokens)

    def _legal(self, architecture: Architecture, rng: random.Random) -> Architecture | None:
        return repair(
            self.space, architecture, self.limits, rng, batch_size=self.batch_size, tokens=self.tokens
        )

    def _nearest_unseen(self, start: Architecture, seen: _Seen) -> Architecture:
        """Breadth-first over one-gene moves, through seen and infeasible architectures alike."""
        visited = {start.id}
        queue = deque([start])
        while queue and len(visited) < MAX_VISITED:
            for architecture in neighbours(self.space, queue.popleft()):
                if architecture.id in visited:
                    continue
                visited.add(architecture.id)
                if architecture.id not in seen and self._keeps_limits(architecture):
                    return architecture
                queue.append(architecture)
        within = " within the constraints" if self.limits else ""
        if queue:
            raise SpaceExhausted(
                f"none of the {len(visited):,} architectures nearest to the last proposal is new{within}; "
                "widen the space or loosen the constraints"
            )
        raise SpaceExhausted(
            f"every architecture of the space{within} is evaluated or running ({len(seen):,} proposals); "
            "widen the space to go on"
        )


def _mended(asked: Proposal, architecture: Architecture, how: str) -> Proposal:
    if architecture.id == asked.architecture.id:
        return asked
    return replace(asked, architecture=architecture, note=f"{asked.note}; {how}" if asked.note else how)
