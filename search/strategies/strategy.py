"""The contract of every strategy: what it is told, what it answers.

A strategy is a pure function: the same number, draw, history and pending set give the same proposal, in any
process, so a restart needs nothing but the stored trials. It has no clock, no database, no worker and no
shared generator; it may cache what it could recompute. Every objective is minimised; signs change once, in
`search.objectives`. Deduplication, constraint repair and screening wrap a strategy from outside
(`search.proposer`).
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from space.architecture import Architecture

from ..records import Origin


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of one earlier trial of the job (references are not told)."""

    number: int
    architecture: Architecture
    objectives: tuple[float, ...] | None
    """As `search.objectives.minimised` gives them; None for a trial that failed."""
    feasible: bool = True
    """False when a measured value breaks a constraint."""
    violation: float = 0.0
    """How far (`search.pareto.violation`); orders the infeasible ones."""
    complete: bool = True
    """False when the objectives come from a training that was not finished: they count only among their
    like.
    """
    fidelity: float = 1.0
    """Share of the full training behind the objectives."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """An architecture worth trying, and where it comes from."""

    architecture: Architecture
    origin: Origin
    parents: tuple[int, ...] = ()
    """Trial numbers."""
    note: str = ""


class Strategy(Protocol):
    """Proposes architectures."""

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """The `draw`-th candidate for trial `number`.

        `history` holds every finished trial, failed ones without objectives; its order does not matter.
        `pending` holds what is being evaluated now. The answer may repeat an architecture of either and may
        break a static constraint: the wrapper mends that.
        """
        ...


@runtime_checkable
class Foreseeing(Protocol):
    """A strategy with a model of what its next proposals bring."""

    def expected_growth(self, history: Sequence[Told]) -> float | None:
        """Hypervolume that the best candidate is expected to add, as a fraction of the front's; None while
        there is no model.
        """
        ...


def stream(seed: int, *parts: int | str) -> random.Random:
    """A generator of its own for each use: the same in every process, whatever ran in between.

    >>> stream(0, "ask", 3).random() == stream(0, "ask", 3).random() != stream(0, "ask", 4).random()
    True
    """
    return random.Random("/".join(map(str, (seed, *parts))))


def stream_seed(seed: int, *parts: int | str) -> int:
    """A 32-bit seed, for libraries that take a number."""
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
