"""Details of ended jobs that retention removes (`search.retention`)."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from ..records import FINAL_JOB_STATES, OWN_TEACHER
from .models import Architecture, Event, Job, Trial, TrialLog
from .rows import utc

PRUNED = "pruned_at"
"""Key of a job's context: Unix seconds when its details were removed."""
_TRIAL_EVENTS = ("trial.created", "trial.state", "trial.measured")


def old_jobs(session: Session, before: float) -> list[str]:
    """Jobs that ended before a moment and still have their details, oldest first."""
    query = select(Job).where(Job.state.in_(sorted(FINAL_JOB_STATES)), Job.ended_at < utc(before))
    return [row.id for row in session.scalars(query.order_by(Job.position)) if PRUNED not in row.context]


def count(session: Session, job_id: str) -> tuple[int, int]:
    """Events and log rows that `remove` would remove."""
    events = select(func.count()).select_from(Event).where(*_events(job_id))
    logs = select(func.count()).select_from(TrialLog).where(*_logs(job_id))
    return int(session.scalar(events) or 0), int(session.scalar(logs) or 0)


def remove(session: Session, job_id: str, now: float) -> tuple[int, int]:
    """Removes them and says so in the job's context; the counts."""
    counts = count(session, job_id)
    session.execute(delete(Event).where(*_events(job_id)))
    session.execute(delete(TrialLog).where(*_logs(job_id)))
    row = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
    row.context = {**row.context, PRUNED: now}
    row.version += 1
    session.flush()
    return counts


def trainings_in_use(session: Session, before: float) -> set[str]:
    """Trainings of jobs that go on or ended later, and those of front members, references and finalists."""
    is_recent = or_(Job.ended_at.is_(None), Job.ended_at >= utc(before))
    query = (
        select(Architecture.training_id)
        .join(Trial, Trial.architecture_id == Architecture.id)
        .join(Job, Job.id == Trial.job_id)
        .where(or_(is_recent, _is_kept()))
        .distinct()
    )
    return set(session.scalars(query))


def teachers(session: Session, before: float) -> tuple[set[str], set[str]]:
    """Digests of the users' teachers of jobs that go on or ended later, and of all jobs."""
    in_use, known = set[str](), set[str]()
    for context, ended_at in session.execute(select(Job.context, Job.ended_at)):
        if teacher := context.get(OWN_TEACHER):
            known.add(teacher["digest"])
            if ended_at is None or ended_at >= utc(before):
                in_use.add(teacher["digest"])
    return in_use, known


def trainings_known(session: Session, names: Iterable[str]) -> set[str]:
    """Those of the names that are trainings of stored architectures."""
    wanted = sorted(set(names))
    found: set[str] = set()
    for start in range(0, len(wanted), 500):
        chunk = wanted[start : start + 500]
        query = select(Architecture.training_id).where(Architecture.training_id.in_(chunk)).distinct()
        found |= set(session.scalars(query))
    return found


def _is_kept() -> ColumnElement[bool]:
    return or_(Trial.on_front, Trial.number < 0, Trial.final.is_not(None))


def _kept_numbers(job_id: str) -> ColumnElement[bool]:
    kept = select(Trial.number).where(Trial.job_id == job_id, _is_kept())
    return Event.trial.not_in(kept)


def _events(job_id: str) -> list[ColumnElement[bool]]:
    return [Event.job_id == job_id, Event.kind.in_(_TRIAL_EVENTS), _kept_numbers(job_id)]


def _logs(job_id: str) -> list[ColumnElement[bool]]:
    kept = select(Trial.number).where(Trial.job_id == job_id, _is_kept())
    return [TrialLog.job_id == job_id, TrialLog.trial.not_in(kept)]
