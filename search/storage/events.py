"""Events of a job, numbered 1, 2, 3, ... without gaps: what streams replay and proposals refer to."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Insert, insert, select
from sqlalchemy.orm import Session

from ..records import EventKind, EventRecord
from .fences import JobHead, clock, job_row
from .finite import finite_json
from .models import Event, Job
from .rows import event_record, utc
from .together import named, write_in_turn

_COLUMNS = ("job_id", "seq", "at", "kind", "trial", "data")


def append(
    session: Session,
    job_id: str,
    kind: EventKind,
    trial: int | None = None,
    data: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> int:
    """Adds an event and returns its sequence number.

    Raises:
        NotFoundError: there is no such job.
    """
    return add(session, job_row(session, job_id, lock=True), kind, trial, data, now)


def append_once(
    session: Session,
    job_id: str,
    kind: EventKind,
    trial: int | None = None,
    data: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> int:
    """As `append`, unless the newest event says the same: a write that is repeated is stored once."""
    job = job_row(session, job_id, lock=True)
    newest = session.scalar(select(Event).where(Event.job_id == job_id, Event.seq == job.last_seq))
    if newest is not None and (newest.kind, newest.trial, newest.data) == (kind, trial, dict(data or {})):
        return newest.seq
    return add(session, job, kind, trial, data, now)


def add(
    session: Session,
    job: Job | JobHead,
    kind: EventKind,
    trial: int | None = None,
    data: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> int:
    """As `append`, for a row that is already locked: the lock is what keeps the numbers without gaps. A head
    stores its events with its other writes."""
    job.last_seq += 1
    row = {
        "job_id": job.id,
        "seq": job.last_seq,
        "at": utc(clock(session, now)),
        "kind": kind,
        "trial": trial,
        "data": finite_json("event", data or {}),
    }
    if isinstance(job, JobHead):
        job.writes.append((_insert, row))
    else:
        write_in_turn(session.connection(), [(_insert, row)])
    return job.last_seq


def _insert(_dialect: str, prefix: str) -> Insert:
    return insert(Event).values(named(_COLUMNS, prefix))


def after(session: Session, job_id: str, seq: int = 0, limit: int = 500) -> Sequence[EventRecord]:
    """Up to `limit` events newer than `seq`, oldest first. An unknown job has none."""
    query = select(Event).where(Event.job_id == job_id, Event.seq > seq).order_by(Event.seq).limit(limit)
    return [event_record(row) for row in session.scalars(query)]


def last_seq(session: Session, job_id: str) -> int:
    """Sequence number of the newest event, 0 before the first."""
    return job_row(session, job_id).last_seq


def heads(session: Session, job_ids: Collection[str]) -> dict[str, tuple[int, str]]:
    """Newest sequence number and state of those jobs that exist, in one query."""
    rows = session.execute(select(Job.id, Job.last_seq, Job.state).where(Job.id.in_(list(job_ids))))
    return {job_id: (seq, state) for job_id, seq, state in rows}
