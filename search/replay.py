"""A finished search asked again: does every proposal follow from the event log, bit for bit?

    events up to `asked_after` of trial n  ->  history, pending set  ->  ask(n)  ==  the stored candidates

The rows of a job say how it ended; what a proposal saw is how it stood then, and the events tell that: values
and rungs (`trial.measured`), states (`trial.state`), the front (`front.changed`). Which screenings were under
way beside it stands in the event of the trial's creation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy.orm import Session

from .asking import one_thread
from .clock import Clock
from .history import MOST_TOLD, has_result, told_of
from .ledger import INFEASIBLE, Ledger
from .pareto import violation
from .plan import JobPlan
from .records import FINAL_TRIAL_STATES, EventRecord, TrialRecord
from .screening import make_proposer
from .storage import events, jobs
from .storage.database import Database
from .strategies import Proposal, Told
from .warm_start import WarmStart

_PAGE = 1000
Verdict = Literal["equal", "different", "unknown"]
"""unknown: a screening beside it was drawn again later, and what it had drawn first is not kept; or the trial
was stored before its question was."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One trial, asked for again."""

    number: int
    verdict: Verdict
    expected: tuple[str, ...]
    """Ids of the candidates that were screened for it."""
    found: tuple[str, ...]


@dataclass(slots=True)
class _State:
    """The trials of the search as of an event."""

    rows: dict[int, TrialRecord] = field(default_factory=dict)
    on_front: set[int] = field(default_factory=set)

    def apply(self, event: EventRecord, final: Mapping[int, TrialRecord], plan: JobPlan) -> None:
        data, number = event.data, event.trial
        if event.kind == "front.changed" and data["group"] == "search":
            self.on_front = (self.on_front | set(data["joined"])) - set(data["left"])
        if number is None or number < 0 or number not in final:
            return
        if event.kind == "trial.created":
            self.rows[number] = replace(
                final[number], state="waiting", rung=0, steps=0, values={}, flags=(), on_front=False
            )
        elif event.kind == "trial.state":
            self.rows[number] = replace(self.rows[number], state=data["state"])
        elif event.kind == "trial.measured" and "values" in data:
            row = self.rows[number]
            values = {**row.values, **data["values"]}
            flags = (INFEASIBLE,) if violation(values, plan.measured_limits) > 0 else ()
            self.rows[number] = replace(
                row, values=values, flags=flags, rung=data["rung"], steps=data["steps"]
            )


class Replay:
    """One job's proposals, in the order in which they were asked for."""

    def __init__(self, database: Database, job_id: str, plan: JobPlan) -> None:
        with database.read() as session:
            job = jobs.get(session, job_id)
            self._events = _all_events(session, job_id)
        self._plan = plan
        self._ledger = Ledger(database, job, plan, Clock())
        self._final = {row.number: row for row in self._ledger.search_trials}
        self._earlier = WarmStart(self._ledger)
        self._proposer = make_proposer(plan, self._earlier)
        self._drawn: dict[int, tuple[int, tuple[Proposal, ...]]] = {}
        """Number -> round and candidates of what was asked again."""

    def run(self) -> list[Replayed]:
        """Every trial of the search, by number."""
        created = {
            event.trial: event.data.get("asked")
            for event in self._events
            if event.kind == "trial.created" and event.trial is not None and event.trial >= 0
        }
        order = sorted(self._final.values(), key=lambda row: (row.asked_after, row.number))
        state, position, found = _State(), 0, []
        with one_thread(self._proposer):
            for row in order:
                while position < len(self._events) and self._events[position].seq <= row.asked_after:
                    state.apply(self._events[position], self._final, self._plan)
                    position += 1
                found.append(self._again(row, created.get(row.number), state))
        return sorted(found, key=lambda one: one.number)

    def _again(self, row: TrialRecord, asked: Mapping[str, Any] | None, state: _State) -> Replayed:
        expected = tuple(asked["candidates"]) if asked else (row.architecture_id,)
        beside = self._beside(asked["beside"]) if asked else None
        if asked is None or beside is None:
            return Replayed(row.number, "unknown", expected, ())
        rows = sorted(state.rows.values(), key=lambda one: one.number)
        pending = [self._ledger.architecture(one) for one in rows if one.state not in FINAL_TRIAL_STATES]
        known = [one for one in rows if has_result(one)]
        drawn = self._proposer.candidates(
            row.number,
            self._plan.spec.screen.candidates,
            self._told(known, state.on_front),
            [*pending, *(proposal.architecture for proposal in beside)],
            round=asked["round"],
            known={one.architecture_id for one in known} | self._earlier.seen,
        ).proposals
        self._drawn[row.number] = asked["round"], drawn
        found = tuple(proposal.architecture.id for proposal in drawn)
        is_equal = found[: len(expected)] == expected
        return Replayed(row.number, "equal" if is_equal else "different", expected, found)

    def _beside(self, rounds: Sequence[Sequence[int]]) -> list[Proposal] | None:
        """Candidates of the screenings that were under way; None where they cannot be known."""
        found: list[Proposal] = []
        for number, round, count in rounds:
            if self._drawn.get(number, (None, ()))[0] != round:
                return None
            found += self._drawn[number][1][:count]
        return found

    def _told(self, known: Sequence[TrialRecord], on_front: set[int]) -> list[Told]:
        """As `search.history.told_by_definition`, of rows as they stood."""
        newest = {row.number for row in known[-MOST_TOLD:]}
        own = [told_of(self._ledger, row) for row in known if row.number in on_front | newest]
        return [*self._earlier.told({row.architecture_id: row for row in known}), *own]


def _all_events(session: Session, job_id: str) -> list[EventRecord]:
    found: list[EventRecord] = []
    while page := events.after(session, job_id, found[-1].seq if found else 0, _PAGE):
        found += page
    return found
