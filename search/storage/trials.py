"""Trials: what a job's coordinator proposes, measures and counts. References have negative numbers.

Functions take the session first, return records and never commit; those with a `fence` raise ConflictError
when it is old, when the lease was given back, or when the job has ended. All of them may be repeated: a
number that is already there, a state the trial is already in, a result that is already counted change
nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from space.errors import ConflictError, InvalidInputError, NotFoundError, nearest

from ..records import TRIAL_REASONS, Final, Origin, Spread, TrialReason, TrialRecord, TrialState
from . import architectures, events
from . import front as fronts
from .architectures import ArchitectureLike
from .ending import move_trial
from .fences import clock, fenced_job
from .finite import finite_values, stored_text
from .models import Architecture, Job, Trial
from .rows import final_json, spread_json, trial_record, utc
from .trial_queries import Group, all_trials, front, list_trials, references

__all__ = [
    "Group",
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
    now: float | None = None,
) -> TrialRecord:
    """Stores a waiting trial. `asked`: how it was asked for, kept with the event.

    Raises:
        ConflictError: the number belongs to another architecture.
    """
    job = fenced_job(session, job_id, fence, "trials.create", number=number)
    stored = _find(session, job_id, number)
    if stored is not None:
        if stored.architecture_id != architecture.id:
            raise ConflictError(
                f"trial {number} of job {job_id} has another architecture; use the next number"
            )
        return _record(session, stored)
    architectures.put(session, architecture)
    row = Trial(
        job_id=job_id,
        number=number,
        origin=origin,
        parents=list(parents),
        note=stored_text(note) or "",
        asked_after=asked_after,
        architecture_id=architecture.id,
        state="waiting",
        reason=None,
        message=None,
        attempt=0,
        rung=0,
        steps=0,
        values={},
        spread={},
        kinds={},
        flags=[],
        final=None,
        counted=False,
        on_front=False,
        created_at=utc(clock(session, now)),
        ended_at=None,
    )
    session.add(row)
    data: dict[str, Any] = {"architecture_id": architecture.id, "origin": origin}
    if asked is not None:
        data["asked"] = dict(asked)
    events.add(session, job, "trial.created", number, data, now)
    session.flush()
    return _record(session, row)


def get(session: Session, job_id: str, number: int) -> TrialRecord:
    """
    Raises:
        NotFoundError: there is no such trial.
    """
    return _record(session, _row(session, job_id, number))


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
    row = _row(session, job_id, number)
    if row.state == state:
        return _record(session, row)
    job = fenced_job(session, job_id, fence, "trials.set_state", number=number, state=state)
    if state == "failed" and reason not in TRIAL_REASONS:
        raise InvalidInputError(f"reason '{reason}' of trial {number}; {nearest(str(reason), TRIAL_REASONS)}")
    if state == "completed":
        return complete(session, job_id, number, fence, now=now)
    _move(session, job, row, state, reason, message, now)
    return _record(session, row)


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
    clean = finite_values(f"trial {number}", values)
    for key, interval in (spread or {}).items():
        finite_values(f"trial {number} spread of", {f"{key}.low": interval.low, f"{key}.high": interval.high})
    job = fenced_job(session, job_id, fence, "trials.record", number=number)
    row = _row(session, job_id, number)
    kept = {key: value for key, value in row.spread.items() if key not in clean}
    row.values = {**row.values, **clean}
    row.spread = {**kept, **spread_json(spread or {})}
    row.kinds = {**row.kinds, **(kinds or {})}
    row.flags = row.flags if flags is None else sorted(set(flags))
    row.rung = row.rung if rung is None else rung
    row.steps = row.steps if steps is None else steps
    if session.is_modified(row):
        data = {"values": clean, "rung": row.rung, "steps": row.steps}
        events.add(session, job, "trial.measured", number, data, now)
        fronts.refresh(session, job, row, now)
    session.flush()
    return _record(session, row)


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
    session: Session, job_id: str, number: int, fence: int, *, now: float | None = None
) -> list[TrialRecord]:
    """As `complete`; the trial, and after it those whose flag it changed."""
    job = fenced_job(session, job_id, fence, "trials.complete", number=number)
    row = _row(session, job_id, number)
    flagged: Sequence[Trial] = ()
    if row.state != "completed":
        _move(session, job, row, "completed", None, None, now)
        flagged = fronts.refresh(session, job, row, now)
    session.flush()
    return [_record(session, one) for one in (row, *(one for one in flagged if one is not row))]


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
        for key, interval in part.items():
            ends = {f"{key}.low": interval.low, f"{key}.high": interval.high}
            finite_values(f"trial {number} final spread of", ends)
    job = fenced_job(session, job_id, fence, "trials.set_final", number=number)
    row = _row(session, job_id, number)
    row.final = final_json(final)
    data = {"final": True, "seeds": final.seeds, "steps": final.steps}
    events.add(session, job, "trial.measured", number, data, now)
    fronts.refresh(session, job, row, now)
    session.flush()
    return _record(session, row)


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
    job = fenced_job(session, job_id, fence, "trials.requeue_running")
    query = select(Trial).where(Trial.job_id == job_id, Trial.state == "running").order_by(Trial.number)
    rows = session.scalars(query).all()
    for row in rows:
        row.attempt += 1
        move_trial(session, job, row, "waiting", now=now)
    session.flush()
    return [_record(session, row) for row in rows]


def requeue(
    session: Session, job_id: str, number: int, fence: int, *, now: float | None = None
) -> TrialRecord:
    """A running trial whose worker died waits again, with one more attempt; any other is left as it is."""
    job = fenced_job(session, job_id, fence, "trials.requeue", number=number)
    row = _row(session, job_id, number)
    if row.state == "running":
        row.attempt += 1
        move_trial(session, job, row, "waiting", now=now)
        session.flush()
    return _record(session, row)


def _find(session: Session, job_id: str, number: int) -> Trial | None:
    if abs(number) >= 2**31:  # no trial has such a number, and neither engine could look for it
        return None
    return session.scalar(select(Trial).where(Trial.job_id == job_id, Trial.number == number))


def _row(session: Session, job_id: str, number: int) -> Trial:
    row = _find(session, job_id, number)
    if row is None:
        raise NotFoundError(f"trial {number} of job {job_id[:64]} does not exist")
    return row


def _record(session: Session, row: Trial) -> TrialRecord:
    architecture = session.get_one(Architecture, row.architecture_id)
    return trial_record(row, architecture)


def _move(
    session: Session,
    job: Job,
    row: Trial,
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
    session.flush()
