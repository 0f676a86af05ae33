"""How the trials of a job stand, counted: what a page says of all of them without reading each."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .indicators import counted
from .records import FINAL_TRIAL_STATES, JobRecord, TrialRecord

NUMBER = "number"
Within = tuple[str, float | None, float | None]
"""An objective key, or `NUMBER` for the trial's, with its ends in stored units; None is open."""


@dataclass(frozen=True, slots=True)
class FailedTrial:
    """Why one trial or reference failed."""

    number: int
    reason: str
    message: str

    @property
    def label(self) -> str:
        return f"R{-self.number}" if self.number < 0 else str(self.number)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of search trials, and of references where it says so."""

    states: Mapping[str, int]
    """Search trials by state; no zeros."""
    reference_states: Mapping[str, int]
    reached: tuple[int, ...]
    """Search trials trained at least as long as each rung."""
    measured: int
    """Search trials whose latency was measured whole."""
    on_front: int
    finalists: int
    """Search trials that were trained again with several seeds."""
    retrained: int
    """The same with references."""
    failed: tuple[FailedTrial, ...]
    """Trials and references, by number."""

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def done(self) -> int:
        """Search trials that have ended."""
        return _ended(self.states)

    @property
    def references(self) -> int:
        return sum(self.reference_states.values())

    @property
    def references_done(self) -> int:
        return _ended(self.reference_states)


@dataclass(frozen=True, slots=True)
class Ending:
    """When a search trial ended, and what it had trained by then."""

    at: dt.datetime
    training_id: str
    steps: int
    is_counted: bool


def rungs_of(job: JobRecord) -> list[int]:
    """Training steps at the end of every rung of the search."""
    return [int(step) for step in job.context.get("rung_steps") or (job.spec["training"]["steps"],)]


def tally_of(trials: Iterable[TrialRecord], rungs: Sequence[int]) -> Tally:
    """The definition; `search.storage.overviews.tally` counts the same in the database.

    `trials`: trials and references. `rungs`: steps at the end of each.
    """
    rows = list(trials)
    own = [one for one in rows if one.number >= 0]
    return Tally(
        states=dict(Counter(str(one.state) for one in own)),
        reference_states=dict(Counter(str(one.state) for one in rows if one.number < 0)),
        reached=tuple(sum(one.steps >= steps for one in own) for steps in rungs),
        measured=sum(one.kinds.get("latency_s") == "measured" for one in own),
        on_front=sum(one.on_front for one in own),
        finalists=sum(one.final is not None for one in own),
        retrained=sum(one.final is not None for one in rows),
        failed=tuple(
            FailedTrial(one.number, one.reason or "internal", one.message or "")
            for one in sorted(rows, key=lambda row: row.number)
            if one.state == "failed"
        ),
    )


def endings_of(trials: Sequence[TrialRecord], objectives: Sequence[str]) -> list[Ending]:
    """The definition; `search.storage.overviews.endings` reads the same from the database."""
    numbers = {one.number for one in counted(trials, objectives)}
    return [
        Ending(one.ended_at or one.created_at, one.training_id, one.steps, one.number in numbers)
        for one in trials
        if one.number >= 0 and (one.ended_at is not None or one.number in numbers)
    ]


def _ended(states: Mapping[str, int]) -> int:
    return sum(count for state, count in states.items() if state in FINAL_TRIAL_STATES)
