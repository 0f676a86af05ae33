"""What workers logged about a trial, one row per piece of work and attempt."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ..records import LoggedWork
from .fences import clock
from .finite import finite_json, stored_text
from .models import TrialLog
from .rows import utc
from .upsert import insert_new


def put(
    session: Session,
    job_id: str,
    trial: int,
    work: str,
    attempt: int,
    lines: Sequence[Mapping[str, Any]],
    now: float | None = None,
) -> None:
    """Stores the lines unless those of this attempt are there."""
    clean = [{**line, "text": stored_text(str(line["text"]))} for line in lines]
    insert_new(
        session,
        TrialLog,
        job_id=job_id,
        trial=trial,
        work=work[:200],
        attempt=attempt,
        lines=finite_json("log", clean),
        created_at=utc(clock(session, now)),
    )


def of_trial(session: Session, job_id: str, trial: int) -> list[LoggedWork]:
    """In the order in which the work ended; empty for a trial nobody logged about."""
    query = select(TrialLog).where(TrialLog.job_id == job_id, TrialLog.trial == trial).order_by(TrialLog.id)
    return [LoggedWork(row.work, row.attempt, row.lines) for row in session.scalars(query)]
