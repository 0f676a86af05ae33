"""What happens to a job and its trials when its state changes, in one place for users and coordinators."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from space.errors import ConflictError

from ..records import FINAL_JOB_STATES, FINAL_TRIAL_STATES, JOB_TRANSITIONS
from . import events
from .fences import JobHead, clock
from .finite import stored_text
from .models import Job, Trial, TrialRow
from .rows import utc


def move_job(
    session: Session,
    job: Job,
    state: str,
    *,
    reason: str | None = None,
    message: str | None = None,
    now: float | None = None,
) -> None:
    """Puts a locked job into `state`; an end takes the lease away and cancels the trials that have not ended.

    Raises:
        ConflictError: the table of transitions does not allow it.
    """
    if state == job.state:
        _explain(job, reason, message)
        return
    allowed = JOB_TRANSITIONS.get(job.state, frozenset())
    if state not in allowed:
        ways = ", ".join(sorted(allowed)) or "nothing: it has ended"
        raise ConflictError(f"job {job.id} is {job.state} and cannot become {state}; possible: {ways}")
    moment = utc(clock(session, now))
    job.state, job.reason, job.message = state, reason, stored_text(message)
    job.version += 1
    if state == "running" and job.started_at is None:
        job.started_at = moment
    if state in FINAL_JOB_STATES:
        job.ended_at, job.lease_owner, job.lease_until = moment, None, None
        _cancel_trials(session, job, now)
    events.add(session, job, "job.state", None, {"state": state, "reason": reason}, now)


def _explain(job: Job, reason: str | None, message: str | None) -> None:
    """A new reason for the same state, for example `waiting_for_workers`."""
    if (reason, stored_text(message)) != (job.reason, job.message) and job.state not in FINAL_JOB_STATES:
        job.reason, job.message = reason, stored_text(message)
        job.version += 1


def _cancel_trials(session: Session, job: Job, now: float | None) -> None:
    unfinished = select(Trial).where(Trial.job_id == job.id, Trial.state.in_(("waiting", "running")))
    for row in session.scalars(unfinished.order_by(Trial.number)).all():
        move_trial(session, job, row, "cancelled", now=now)


def move_trial(
    session: Session,
    job: Job | JobHead,
    row: Trial | TrialRow,
    state: str,
    *,
    reason: str | None = None,
    message: str | None = None,
    now: float | None = None,
) -> None:
    """Puts a trial of a locked job into `state` and says so in an event."""
    row.state, row.reason, row.message = state, reason, stored_text(message)
    if state in FINAL_TRIAL_STATES:
        row.ended_at = utc(clock(session, now))
    data = {"state": state, "reason": reason, "attempt": row.attempt}
    events.add(session, job, "trial.state", row.number, data, now)
