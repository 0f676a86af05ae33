"""Who may write: the job's row is locked, its fence compared, and a refused write is remembered.

A fence grows with every lease. Whoever names an older one lost its lease and is told so by ConflictError; the
refusal goes to the table `audit` in a transaction of its own (`Database.write` does that), since this one
rolls back.
"""

import time
from collections.abc import Callable
from typing import Any, NoReturn

from sqlalchemy import select
from sqlalchemy.orm import Session

from space.errors import ConflictError, NotFoundError

from ..records import FINAL_JOB_STATES
from .models import Audit, Job
from .rows import utc

CLOCK = "clock"
REFUSALS = "refusals"


def clock(session: Session, now: float | None = None) -> float:
    """`now`, or the session's clock: Unix seconds."""
    if now is not None:
        return now
    reading: Callable[[], float] = session.info.get(CLOCK, time.time)
    return reading()


def job_row(session: Session, job_id: str, *, tenant: str | None = None, lock: bool = False) -> Job:
    """The job's row; with `lock` nobody else changes it before this transaction ends.

    Raises:
        NotFoundError: there is no such job, or it is another tenant's: the same answer.
    """
    query = select(Job).where(Job.id == job_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = session.scalar(query)
    if row is None or (tenant is not None and row.tenant != tenant):
        raise NotFoundError(f"job {job_id[:64]} does not exist")
    return row


def fenced_job(session: Session, job_id: str, fence: int, action: str, **detail: Any) -> Job:
    """The locked row of a job that the holder of `fence` may write to.

    Raises:
        ConflictError: the lease was given back or went to another coordinator, or the job has ended.
    """
    row = job_row(session, job_id, lock=True)
    if row.fence != fence:
        refuse(session, row, fence, action, f"fence {fence} is old, the current one is {row.fence}", detail)
    if row.state in FINAL_JOB_STATES:
        refuse(session, row, fence, action, f"the job is {row.state}", detail)
    if row.lease_owner is None:
        refuse(session, row, fence, action, "its lease was given back", detail)
    return row


def refuse(
    session: Session, row: Job, fence: int, action: str, why: str, detail: dict[str, Any] | None = None
) -> NoReturn:
    entry = Audit(
        at=utc(clock(session)),
        job_id=row.id,
        action=action,
        fence_given=fence,
        fence_current=row.fence,
        detail={"why": why, **(detail or {})},
    )
    session.info.setdefault(REFUSALS, []).append(entry)
    raise ConflictError(f"job {row.id}: {action} refused, {why}; drop the work")


def take_refusals(session: Session) -> list[Audit]:
    """The refusals of this transaction, to be stored; the list is empty afterwards."""
    entries: list[Audit] = session.info.pop(REFUSALS, [])
    return entries
