"""Reading many trials at once, a few numbers of each: clouds of dots, samples, progress of several jobs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from space.errors import InvalidInputError, nearest

from ..objectives import OBJECTIVES
from ..records import FINAL_TRIAL_STATES, TrialRecord
from .fences import job_row
from .models import Architecture, Trial
from .rows import trial_record

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Dot:
    """A trial without its architecture: what a cloud shows of it."""

    number: int
    state: str
    on_front: bool
    value: float | None


def dots(session: Session, job_id: str, key: str) -> list[Dot]:
    """One quantity of every trial and reference by number, in the numbers of the job's stage.

    Raises:
        NotFoundError: there is no such job.
        InvalidInputError: unknown key.
    """
    job = job_row(session, job_id)
    if key not in OBJECTIVES:
        raise InvalidInputError(f"unknown quantity '{key[:40]}'; {nearest(key, OBJECTIVES)}")
    value = Trial.values[key].as_float()
    if job.stage == "final":
        value = func.coalesce(Trial.final[("values", key)].as_float(), value)
    rows = session.execute(
        select(Trial.number, Trial.state, Trial.on_front, value)
        .where(Trial.job_id == job_id)
        .order_by(Trial.number)
    )
    return [Dot(number, state, on_front, number_of) for number, state, on_front, number_of in rows]


def count(session: Session, job_id: str) -> int:
    """Number of trials and references of a job."""
    found = session.scalar(select(func.count()).select_from(Trial).where(Trial.job_id == job_id))
    return int(found or 0)


def sample(session: Session, job_id: str, limit: int) -> list[TrialRecord]:
    """At most `limit` trials by number: the fronts and the references, then evenly over the others.

    Raises:
        NotFoundError: there is no such job.
    """
    job_row(session, job_id)
    rows = session.execute(
        select(Trial.number, Trial.on_front).where(Trial.job_id == job_id).order_by(Trial.number)
    ).all()
    chosen = evenly(
        [number for number, on_front in rows if on_front or number < 0],
        [number for number, on_front in rows if not on_front and number >= 0],
        limit,
    )
    return _numbered(session, job_id, chosen)


def evenly(first: Sequence[int], others: Sequence[int], limit: int) -> list[int]:
    """
    >>> evenly([-1, 7], range(7), 5), evenly([], [3, 4], 5), evenly([1, 2, 3], [4], 2)
    ([-1, 7, 0, 3, 6], [3, 4], [1, 2])
    """
    room = max(0, limit - len(first))
    if len(others) <= room:
        return [*first, *others]
    if room == 1:
        return [*first, others[-1]]
    spread = (others[round(i * (len(others) - 1) / (room - 1))] for i in range(room))
    return [*first[:limit], *spread] if room else list(first[:limit])


def _numbered(session: Session, job_id: str, numbers: Iterable[int]) -> list[TrialRecord]:
    wanted = sorted(set(numbers))
    found: list[TrialRecord] = []
    for start in range(0, len(wanted), _CHUNK):
        query = (
            select(Trial, Architecture)
            .join(Architecture, Architecture.id == Trial.architecture_id)
            .where(Trial.job_id == job_id, Trial.number.in_(wanted[start : start + _CHUNK]))
            .order_by(Trial.number)
        )
        found += [trial_record(row[0], row[1]) for row in session.execute(query)]
    return found


def ended_trials(session: Session, job_ids: Sequence[str]) -> Mapping[str, int]:
    """Number of search trials of each job that have ended; jobs without any are there with 0."""
    query = (
        select(Trial.job_id, func.count())
        .where(
            Trial.job_id.in_(list(job_ids)), Trial.number >= 0, Trial.state.in_(sorted(FINAL_TRIAL_STATES))
        )
        .group_by(Trial.job_id)
    )
    found = dict(session.execute(query).all())
    return {job_id: found.get(job_id, 0) for job_id in job_ids}
