"""Who may write: the job's row is locked, its fence compared, and a refused write is remembered.

A fence grows with every lease. Whoever names an older one lost its lease and is told so by ConflictError; the
refusal goes to the table `audit` in a transaction of its own (`Database.write` does that), since this one
rolls back.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sqlalchemy import Update, bindparam, select, update
from sqlalchemy.orm import Session

from space.errors import ConflictError, NotFoundError

from ..records import FINAL_JOB_STATES, JobState
from .models import Audit, Job
from .rows import utc
from .together import Write, write_together

CLOCK = "clock"
REFUSALS = "refusals"


@dataclass(slots=True)
class JobHead:
    """What writing a trial needs of its job, whose row is locked."""

    id: str
    fence: int
    state: str
    stage: str
    lease_owner: str | None
    objectives: list[str]
    last_seq: int
    writes: list[Write] = field(default_factory=list)
    """To be done at the end of `fenced`."""

    def store(self, session: Session) -> None:
        """The writes so far, with the number of the newest event."""
        if self.writes:
            newest: Write = (_keep_newest, {"of_job": self.id, "newest": self.last_seq})
            write_together(session.connection(), [*self.writes, newest])
            self.writes.clear()


HEAD = (Job.id, Job.fence, Job.state, Job.stage, Job.lease_owner, Job.objectives, Job.last_seq)
"""Columns of a `JobHead`, in its order."""
_LOCK_HEAD = select(*HEAD).where(Job.id == bindparam("of_job")).with_for_update()


def _keep_newest(_dialect: str, prefix: str) -> Update:
    is_it = Job.id == bindparam(prefix + "of_job")
    return update(Job).where(is_it).values({"last_seq": bindparam(prefix + "newest")})


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
    query = select(Job).where(Job.id == job_id).execution_options(populate_existing=True)
    if lock:
        query = query.with_for_update()
    row = session.scalar(query)
    if row is None or (tenant is not None and row.tenant != tenant):
        raise unknown_job(job_id)
    return row


def unknown_job(job_id: str) -> NotFoundError:
    return NotFoundError(f"job {job_id[:64]} does not exist")


def fenced_job(
    session: Session, job_id: str, fence: int, action: str, *, ending: JobState | None = None, **detail: Any
) -> Job:
    """The locked row of a job that the holder of `fence` may write to. `ending`: it may have that end already
    from the same fence, whose holder repeats it because the answer was lost.

    Raises:
        ConflictError: the lease was given back or went to another coordinator, or the job has ended.
    """
    row = job_row(session, job_id, lock=True)
    if not (row.state in FINAL_JOB_STATES and (row.state, row.fence) == (ending, fence)):
        _check_fence(session, row, fence, action, detail)
    return row


def locked_head(session: Session, job_id: str) -> JobHead:
    """
    Raises:
        NotFoundError: there is no such job.
    """
    session.flush()  # what the ORM still holds back
    found = session.connection().execute(_LOCK_HEAD, {"of_job": job_id}).one_or_none()
    if found is None:
        raise unknown_job(job_id)
    return JobHead(*found)


@contextmanager
def fenced(session: Session, head: JobHead, fence: int, action: str, **detail: Any) -> Iterator[None]:
    """As `fenced_job` for a head that is locked already; at the end its writes are done.

    Raises:
        ConflictError: as `fenced_job`.
    """
    _check_fence(session, head, fence, action, detail)
    yield
    head.store(session)


def _check_fence(
    session: Session, row: Job | JobHead, fence: int, action: str, detail: dict[str, Any]
) -> None:
    if row.fence != fence:
        refuse(session, row, fence, action, f"fence {fence} is old, the current one is {row.fence}", detail)
    if row.state in FINAL_JOB_STATES:
        refuse(session, row, fence, action, f"the job is {row.state}", detail)
    if row.lease_owner is None:
        refuse(session, row, fence, action, "its lease was given back", detail)


def refuse(
    session: Session,
    row: Job | JobHead,
    fence: int,
    action: str,
    why: str,
    detail: dict[str, Any] | None = None,
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
