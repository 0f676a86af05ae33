"""Trials: what a job's coordinator proposes, measures and counts. References have negative numbers.

Functions take the session first, return records and never commit; those with a `fence` raise ConflictError
when it is old, when the lease was given back, or when the job has ended. All of them may be repeated: a
number that is already there, a state the trial is already in, a result that is already counted change
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from space.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError, nearest

from ..records import TRIAL_REASONS, Final, Origin, Spread, TrialReason, TrialRecord, TrialState
from . import architectures, events, trial_rows
from . import front as fronts
from .architectures import ArchitectureLike
from .ending import move_trial
from .fences import JobHead, clock, fenced, fenced_job, job_row, locked_head, unknown_job
from .finite import finite_spread, finite_values, stored_text
from .models import Trial, TrialRow
from .rows import final_json, utc
from .trial_queries import Group, all_trials, front, list_trials, references
from .trial_rows import Numbers

__all__ = [
    "Group",
    "Numbers",
    "all_trials",
    "complete",
    "count_trial",
    "create",
    "front",
    "get",
    "list_trials",
    "record",
    "references",
    "requeue",
    "requeue_running",
    "restate_front",
    "set_final",
    "set_state",
]

_NEXT_STATES: Mapping[str, frozenset[str]] = {
    "waiting": frozenset({"running", "completed", "pruned", "failed", "cancelled"}),
    "running": frozenset({"waiting", "completed", "pruned", "failed", "cancelled"}),
}
"""`running -> waiting` ends a rung or follows a lost worker; `waiting -> completed` came from the cache."""


def create(
    session: Session,
    job_id: str,
    fence: int,
    *,
    number: int,
    origin: Origin,
    parents: Sequence[int] = (),
    note: str = "",
    asked_after: int = 0,
    architecture: ArchitectureLike,
    asked: Mapping[str, Any] | None = None,
    known: Numbers | None = None,
    now: float | None = None,
) -> TrialRecord:
    """Stores a waiting trial. `asked`: how it was asked for, kept with the event. `known`: what is known of
    it already, as if it were recorded next.

    Raises:
        ConflictError: the number belongs to another architecture.
        UnavailableError: an earlier attempt was just being stored; the next one finds it.
    """
    place = trial_rows.locked_place(session, job_id, number)
    if place is None:
        raise unknown_job(job_id)
    job, architecture_id = place
    row = TrialRow(
        job_id=job_id,
        number=number,
        origin=origin,
        parents=list(parents),
        note=stored_text(note) or "",
        asked_after=asked_after,
        architecture_id=architecture.id,
        created_at=utc(clock(session, now)),
        training_id=architecture.training_id,
        canonical_json=architecture.canonical_json,
    )
    data: dict[str, Any] = {"architecture_id": architecture.id, "origin": origin}
    if asked is not None:
        data["asked"] = dict(asked)
    try:
        with fenced(session, job, fence, "trials.create", number=number):
            if architecture_id is not None:
                return _created_before(session, row, architecture_id)
            values = known.put_into(row) if known is not None else {}
            fronts.judge(job, row)
            job.writes.append(architectures.stored(architecture))
            trial_rows.add(job, row)
            events.add(session, job, "trial.created", number, data, now)
            if values:
                events.add(session, job, "trial.measured", number, _told(row, values), now)
    except IntegrityError as error:
        raise UnavailableError(f"trial {number} of job {job_id} was just being stored; try again") from error
    return trial_rows.record(row)


def _created_before(session: Session, row: TrialRow, architecture_id: str) -> TrialRecord:
    if architecture_id != row.architecture_id:
        raise ConflictError(
            f"trial {row.number} of job {row.job_id} has another architecture; use the next number"
        )
    return get(session, row.job_id, row.number)


def get(session: Session, job_id: str, number: int) -> TrialRecord:
    """
    Raises:
        NotFoundError: there is no such trial.
    """
    row = trial_rows.find(session, job_id, number)
    if row is None:
        raise _unknown(job_id, number)
    return trial_rows.record(row)


def set_state(
    session: Session,
    job_id: str,
    number: int,
    fence: int,
    state: TrialState,
    *,
    reason: TrialReason | None = None,
    message: str | None = None,
    now: float | None = None,
) -> TrialRecord:
    """Moves a trial; `completed` is what `complete` does. A trial that is in `state` is left as it is.

    That also holds when the job has ended: cancelling a job has cancelled its trials.

    Raises:
        ConflictError: the trial has ended in another state.
        InvalidInputError: `failed` without a reason of the closed list.
    """
    job, row = _locked(session, job_id, number)
    if row.state == state:
        return trial_rows.record(row)
    if state == "completed":
        return complete(session, job_id, number, fence, now=now)
    with fenced(session, job, fence, "trials.set_state", number=number, state=state):
        if state == "failed" and reason not in TRIAL_REASONS:
            raise InvalidInputError(
                f"reason '{reason}' of trial {number}; {nearest(str(reason), TRIAL_REASONS)}"
            )
        _move(session, job, row, state, reason, message, now)
        trial_rows.write(job, row)
    return trial_rows.record(row)


def record(
    session: Session,
    job_id: str,
    number: int,
    fence: int,
    *,
    values: Mapping[str, float],
    spread: Mapping[str, Spread] | None = None,
    kinds: Mapping[str, str] | None = None,
    flags: Sequence[str] | None = None,
    rung: int | None = None,
    steps: int | None = None,
    now: float | None = None,
) -> TrialRecord:
    """Adds numbers to a trial or replaces them; a new value without a new spread has none. None leaves as is.

    A trial that is already counted, or now becomes so because its latency was measured, moves the front here
    and now.

    Raises:
        InvalidInputError: a value that is not finite or not in its range; the failure reason is
        `invalid_result`.
    """
    found = Numbers(values=values, spread=spread, kinds=kinds, flags=flags, rung=rung, steps=steps)
    job, row = _locked(session, job_id, number)
    with fenced(session, job, fence, "trials.record", number=number):
        if _take(session, job, row, found, now):
            fronts.refresh(session, job, row, now)
    return trial_rows.record(row)


def _take(session: Session, job: JobHead, row: TrialRow, found: Numbers, now: float | None) -> bool:
    """Puts numbers into a row that is then to be stored; whether they changed it."""
    before = replace(row)
    values = found.put_into(row)
    if row == before:
        return False
    events.add(session, job, "trial.measured", row.number, _told(row, values), now)
    return True


def _told(row: TrialRow, values: Mapping[str, float]) -> dict[str, Any]:
    return {"values": values, "rung": row.rung, "steps": row.steps}


def complete(
    session: Session, job_id: str, number: int, fence: int, *, now: float | None = None
) -> TrialRecord:
    """Counts the trial: completed and, with every objective there and latency measured, on the front or not.

    The flags of its group change in the same transaction. A trial with a predicted latency is completed
    without being counted; `record` counts it once the latency is measured.

    Raises:
        ConflictError: the trial has ended otherwise.
    """
    return count_trial(session, job_id, number, fence, now=now)[0]


def count_trial(
    session: Session,
    job_id: str,
    number: int,
    fence: int,
    found: Numbers | None = None,
    *,
    now: float | None = None,
) -> list[TrialRecord]:
    """As `complete`, after recording what was `found`; the trial, and after it those whose flag changed."""
    job, row = _locked(session, job_id, number)
    flagged: Sequence[int] = ()
    with fenced(session, job, fence, "trials.complete", number=number):
        has_news = found is not None and _take(session, job, row, found, now)
        if has_news or row.state != "completed":
            _move(session, job, row, "completed", None, None, now)
            flagged = fronts.refresh(session, job, row, now)
    others = trial_rows.find_many(session, job_id, [other for other in flagged if other != number])
    return [trial_rows.record(one) for one in (row, *others)]


def set_final(
    session: Session, job_id: str, number: int, fence: int, final: Final, *, now: float | None = None
) -> TrialRecord:
    """Stores a finalist's numbers. They count from `jobs.set_stage(..., "final")` on, all at once.

    Raises:
        InvalidInputError: a value that is not finite or not in its range.
    """
    finite_values(f"trial {number} final", final.values)
    finite_values(f"trial {number} test", final.test)
    for part in (final.spread, final.test_spread):
        finite_spread(f"trial {number} final spread of", part)
    job, row = _locked(session, job_id, number)
    with fenced(session, job, fence, "trials.set_final", number=number):
        row.final = final_json(final)
        data = {"final": True, "seeds": final.seeds, "steps": final.steps}
        events.add(session, job, "trial.measured", number, data, now)
        fronts.refresh(session, job, row, now)
    return trial_rows.record(row)


def restate_front(
    session: Session, job_id: str, fence: int, *, now: float | None = None
) -> list[TrialRecord]:
    """Both fronts of the job anew from its values; returns the search front."""
    job = fenced_job(session, job_id, fence, "trials.restate_front")
    fronts.restate_job(session, job, now)
    session.flush()
    return front(session, job_id, "search")


def requeue_running(
    session: Session, job_id: str, fence: int, *, now: float | None = None
) -> list[TrialRecord]:
    """Running trials of a coordinator that died wait again, each with one more attempt; returns them."""
    job = locked_head(session, job_id)
    with fenced(session, job, fence, "trials.requeue_running"):
        query = select(Trial.number).where(Trial.job_id == job_id, Trial.state == "running")
        numbers = session.scalars(query.order_by(Trial.number)).all()
        requeued = []
        for row in trial_rows.find_many(session, job_id, numbers):
            requeued.append(_requeued(session, job, row, now))
            job.store(session)  # one statement a trial, always the same
        return requeued


def requeue(
    session: Session, job_id: str, number: int, fence: int, *, now: float | None = None
) -> TrialRecord:
    """A running trial whose worker died waits again, with one more attempt; any other is left as it is."""
    job, row = _locked(session, job_id, number)
    with fenced(session, job, fence, "trials.requeue", number=number):
        return trial_rows.record(row) if row.state != "running" else _requeued(session, job, row, now)


def _requeued(session: Session, job: JobHead, row: TrialRow, now: float | None) -> TrialRecord:
    row.attempt += 1
    move_trial(session, job, row, "waiting", now=now)
    trial_rows.write(job, row)
    return trial_rows.record(row)


def _locked(session: Session, job_id: str, number: int) -> tuple[JobHead, TrialRow]:
    found = trial_rows.locked(session, job_id, number)
    if found is None:
        job_row(session, job_id)
        raise _unknown(job_id, number)
    return found


def _unknown(job_id: str, number: int) -> NotFoundError:
    return NotFoundError(f"trial {number} of job {job_id[:64]} does not exist")


def _move(
    session: Session,
    job: JobHead,
    row: TrialRow,
    state: str,
    reason: str | None,
    message: str | None,
    now: float | None,
) -> None:
    if state == row.state:
        return
    allowed = _NEXT_STATES.get(row.state, frozenset())
    if state not in allowed:
        raise ConflictError(
            f"trial {row.number} of job {job.id} is {row.state} and cannot become {state}; "
            f"possible: {', '.join(sorted(allowed)) or 'nothing: it has ended'}"
        )
    move_trial(session, job, row, state, reason=reason, message=message, now=now)
