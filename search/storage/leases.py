"""Leases: one coordinator per job, and a fence that grows with every lease.

Times are Unix seconds of one clock: the database's where several machines meet, the machine's otherwise
(`Database.now`). A lease that has run out is not taken away by itself; the next `claim` or `take` does that.
"""

from collections.abc import Collection, Mapping
from typing import Literal

from sqlalchemy import and_, case, or_, select
from sqlalchemy.orm import Session

from space.errors import ConflictError

from ..records import FINAL_JOB_STATES, JobReason, JobRecord
from .ending import move_job, move_trial
from .fences import clock, fenced_job, job_row, refuse
from .models import Job, Trial
from .rows import job_record


def claim(
    session: Session,
    owner: str,
    lease_s: float,
    now: float | None = None,
    *,
    held: Mapping[str, int] | None = None,
    new_tenants_only: bool = False,
    besides: Collection[str] = (),
) -> JobRecord | None:
    """Leases a job that waits for a coordinator; None when there is none.

    Waiting are queued jobs, and running or stopping ones whose lease ran out. `held`: jobs that the caller
    works on, by tenant: the tenant with the fewest comes first, then the oldest job. `new_tenants_only`: jobs
    of tenants that have none there. `besides`: jobs that the caller still works on, whatever became of their
    leases.
    """
    moment = clock(session, now)
    held = {tenant: count for tenant, count in (held or {}).items() if count}
    free = or_(Job.lease_owner.is_(None), Job.lease_until <= moment)
    waiting = and_(Job.state.in_(("queued", "running", "stopping")), free)
    if besides:
        waiting = and_(waiting, Job.id.not_in(sorted(besides)))
    if held and new_tenants_only:
        waiting = and_(waiting, Job.tenant.not_in(sorted(held)))
    elif new_tenants_only:
        return None
    order = [case(held, value=Job.tenant, else_=0), Job.position] if held else [Job.position]
    oldest = select(Job).where(waiting).order_by(*order).limit(1)
    row = session.scalar(oldest.with_for_update(skip_locked=True).execution_options(populate_existing=True))
    return None if row is None else _lease(session, row, owner, lease_s, moment)


def take(
    session: Session,
    job_id: str,
    owner: str,
    lease_s: float,
    now: float | None = None,
    force: bool = False,
) -> JobRecord:
    """Leases this job to finish it, also when it is paused; `force` ends the lease of another coordinator.

    Raises:
        NotFoundError: there is no such job.
        ConflictError: it has ended, or another coordinator holds it.
    """
    moment = clock(session, now)
    row = job_row(session, job_id, lock=True)
    if row.state in FINAL_JOB_STATES:
        raise ConflictError(f"job {job_id} is {row.state} and cannot be resumed; start a new one")
    if _is_held(row, moment) and row.lease_owner != owner and not force:
        left = (row.lease_until or moment) - moment
        raise ConflictError(
            f"job {job_id} is held by {row.lease_owner} for {left:.0f} s more; stop that process or wait"
        )
    return _lease(session, row, owner, lease_s, moment)


def leased(session: Session) -> list[JobRecord]:
    """Jobs that a coordinator holds, oldest first."""
    held = select(Job).where(Job.lease_owner.is_not(None)).order_by(Job.position)
    return [job_record(row) for row in session.scalars(held)]


def wake(session: Session, reason: JobReason, now: float | None = None) -> list[str]:
    """Jobs that paused by themselves for this reason and that nobody holds go on; returns their ids."""
    moment = clock(session, now)
    free = or_(Job.lease_owner.is_(None), Job.lease_until <= moment)
    resting = select(Job).where(Job.state == "paused", Job.reason == reason, free).order_by(Job.position)
    rows = session.scalars(resting.with_for_update(skip_locked=True)).all()
    for row in rows:
        row.lease_owner, row.lease_until = None, None
        move_job(session, row, "running", now=moment)
    session.flush()
    return [row.id for row in rows]


def _is_held(row: Job, moment: float) -> bool:
    return row.lease_owner is not None and row.lease_until is not None and row.lease_until > moment


def _lease(session: Session, row: Job, owner: str, lease_s: float, moment: float) -> JobRecord:
    row.lease_owner, row.lease_until = owner, moment + lease_s
    row.fence += 1
    row.version += 1
    if row.state in ("queued", "paused"):
        move_job(session, row, "running", now=moment)
    session.flush()
    return job_record(row)


def beat(session: Session, job_id: str, fence: int, lease_s: float, now: float | None = None) -> JobRecord:
    """Prolongs the lease and returns the job as it is now: its state says what the user asked for.

    A job that has ended (cancelled by the user) is returned as it is, so that the coordinator can stop its
    workers.

    Raises:
        ConflictError: another coordinator holds the job.
    """
    moment = clock(session, now)
    row = job_row(session, job_id, lock=True)
    if row.fence != fence:
        refuse(session, row, fence, "beat", f"fence {fence} is old, the current one is {row.fence}")
    if row.state not in FINAL_JOB_STATES:
        if row.lease_owner is None:
            refuse(session, row, fence, "beat", "its lease was given back")
        row.lease_until = moment + lease_s
    session.flush()
    return job_record(row)


def release(
    session: Session,
    job_id: str,
    fence: int,
    state: Literal["paused", "queued"] = "paused",
    *,
    reason: str | None = None,
    message: str | None = None,
    now: float | None = None,
) -> JobRecord:
    """Gives the lease back without finishing; running trials wait again and no attempt is used up.

    A running job goes to `state`. A paused one stays paused and a stopping one stopping (another coordinator
    may finish it).

    Raises:
        ConflictError: another coordinator holds the job, or it has ended.
    """
    row = fenced_job(session, job_id, fence, "release")
    running = select(Trial).where(Trial.job_id == job_id, Trial.state == "running").order_by(Trial.number)
    for trial in session.scalars(running).all():
        move_trial(session, row, trial, "waiting", now=now)
    if row.state == "running":
        move_job(session, row, state, reason=reason, message=message, now=now)
    row.lease_owner, row.lease_until = None, None
    row.version += 1
    session.flush()
    return job_record(row)
