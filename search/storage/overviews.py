"""Reading many trials at once, a few numbers of each: clouds of dots, samples, progress of several jobs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, String, case, cast, func, or_, select
from sqlalchemy.orm import Session

from space.errors import InvalidInputError, nearest

from ..objectives import OBJECTIVES
from ..records import FINAL_TRIAL_STATES, MeasurementRecord, TrialRecord
from ..tally import NUMBER, Ending, FailedTrial, Tally, Within
from .fences import job_row
from .front import objective_column
from .models import Architecture, Event, Job, Measurement, Trial
from .rows import measurement_record, trial_record

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
    value = _value(job, key)
    rows = session.connection().execute(
        select(Trial.number, Trial.state, Trial.on_front, value)
        .where(Trial.job_id == job_id)
        .order_by(Trial.number)
    )
    return [Dot(number, state, on_front, number_of) for number, state, on_front, number_of in rows]


def _value(job: Job, key: str) -> ColumnElement[float | None]:
    """A quantity in the numbers of the job's stage; an objective is a column, anything else in the JSON."""
    if key not in OBJECTIVES:
        raise InvalidInputError(f"unknown quantity '{key[:40]}'; {nearest(key, OBJECTIVES)}")
    if key in job.objectives:
        column = objective_column(job.objectives.index(key)).expression
        return -column if OBJECTIVES[key].maximise else column
    value: ColumnElement[float | None] = Trial.values[key].as_float()
    if job.stage == "final":
        value = func.coalesce(Trial.final[("values", key)].as_float(), value)
    return value


@dataclass(frozen=True, slots=True)
class Plane:
    """Search trials that have two quantities, by number; one entry of every array each."""

    number: np.ndarray
    on_front: np.ndarray
    completed: np.ndarray
    """Or stopped early."""
    x: np.ndarray
    y: np.ndarray


def plane(session: Session, job_id: str, x: str, y: str) -> Plane:
    """Every completed or pruned search trial in the plane of two quantities, in stored units.

    Raises:
        NotFoundError: there is no such job.
        InvalidInputError: unknown key.
    """
    job = job_row(session, job_id)
    across, up = _value(job, x), _value(job, y)
    rows = (
        session.connection()
        .execute(  # plain rows: objects cost more than the query
            select(Trial.number, Trial.on_front, Trial.state == "completed", across, up).where(
                Trial.job_id == job_id,
                Trial.number >= 0,
                Trial.state.in_(("completed", "pruned")),
                across.is_not(None),
                up.is_not(None),
            )
        )
        .all()
    )
    found = np.array([tuple(row) for row in rows], dtype=float).reshape(-1, 5)
    found = found[np.argsort(found[:, 0], kind="stable")]
    return Plane(
        found[:, 0].astype(int), found[:, 1] > 0, found[:, 2] > 0, found[:, 3].copy(), found[:, 4].copy()
    )


def inside(session: Session, job_id: str, within: Sequence[Within]) -> np.ndarray:
    """Numbers of the search trials that lie inside all bounds, ascending.

    Raises:
        NotFoundError: there is no such job.
        InvalidInputError: unknown key.
    """
    conditions = _conditions(job_row(session, job_id), within)
    rows = session.connection().execute(
        select(Trial.number).where(Trial.job_id == job_id, Trial.number >= 0, *conditions)
    )
    return np.sort(np.array([number for (number,) in rows], dtype=int))


def _conditions(job: Job, within: Sequence[Within]) -> list[ColumnElement[bool]]:
    """Bounds on the number leave references in: theirs say nothing of when they came."""
    found: list[ColumnElement[bool]] = []
    for key, low, high in within:
        value = Trial.number.expression if key == NUMBER else _value(job, key)
        ends = [value >= low] if low is not None else []
        ends += [value <= high] if high is not None else []
        found += [or_(Trial.number < 0, end) if key == NUMBER else end for end in ends]
    return found


def tally(session: Session, job_id: str, rungs: Sequence[int], within: Sequence[Within] = ()) -> Tally:
    """`search.tally.tally_of` of the trials inside all bounds, counted in one pass over the table."""
    is_reference = Trial.number < 0
    chosen = (Trial.job_id == job_id, *(_conditions(job_row(session, job_id), within) if within else ()))
    rows = session.execute(
        select(
            is_reference,
            Trial.state,
            func.count(),
            _sum(Trial.kinds["latency_s"].as_string() == "measured"),
            _sum(Trial.on_front.expression),
            _sum(Trial.final.is_not(None)),
            *(_sum(Trial.steps >= steps) for steps in rungs),
        )
        .where(*chosen)
        .group_by(is_reference, Trial.state)
    ).all()
    own = [row for row in rows if not row[0]]
    failed = session.execute(
        select(Trial.number, Trial.reason, Trial.message)
        .where(*chosen, Trial.state == "failed")
        .order_by(Trial.number)
    )
    return Tally(
        states={row[1]: int(row[2]) for row in own},
        reference_states={row[1]: int(row[2]) for row in rows if row[0]},
        reached=tuple(sum(int(row[6 + place]) for row in own) for place in range(len(rungs))),
        measured=sum(int(row[3]) for row in own),
        on_front=sum(int(row[4]) for row in own),
        finalists=sum(int(row[5]) for row in own),
        retrained=sum(int(row[5]) for row in rows),
        failed=tuple(
            FailedTrial(number, reason or "internal", message or "") for number, reason, message in failed
        ),
    )


def _sum(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def endings(session: Session, job_id: str) -> list[Ending]:
    """`search.tally.endings_of`, without reading architectures."""
    rows = session.connection().execute(
        select(
            func.coalesce(Trial.ended_at, Trial.created_at, type_=Trial.ended_at.type),
            Architecture.training_id,
            Trial.steps,
            Trial.counted,
        )
        .join(Architecture, Architecture.id == Trial.architecture_id)
        .where(Trial.job_id == job_id, Trial.number >= 0, or_(Trial.ended_at.is_not(None), Trial.counted))
        .order_by(Trial.number)
    )
    return [Ending(*row) for row in rows]


def notable(session: Session, job_id: str) -> list[int]:
    """Numbers of the references, of both fronts and of what was trained again."""
    query = select(Trial.number).where(
        Trial.job_id == job_id, or_(Trial.number < 0, Trial.on_front, Trial.final.is_not(None))
    )
    return list(session.scalars(query))


def spread_completed(
    session: Session, job_id: str, limit: int, within: Sequence[Within] = ()
) -> list[TrialRecord]:
    """About `limit` completed search trials inside all bounds, evenly by number; all of a smaller job."""
    completed = [Trial.job_id == job_id, Trial.number >= 0, Trial.state == "completed"]
    if within:
        completed += _conditions(job_row(session, job_id), within)
    known = session.scalar(select(func.count()).select_from(Trial).where(*completed)) or 0
    step = max(1, -(-known // limit))
    query = (
        select(Trial, Architecture)
        .join(Architecture, Architecture.id == Trial.architecture_id)
        .where(*completed, Trial.number % step == 0)
        .order_by(Trial.number)
    )
    return [trial_record(row[0], row[1]) for row in session.execute(query)]


def kin(session: Session, job_id: str, trial: TrialRecord) -> list[TrialRecord]:
    """What the page of a trial says others of: the front of its group, its parents and its children."""
    is_same = Trial.number < 0 if trial.number < 0 else Trial.number >= 0
    text = cast(Trial.parents, String)  # narrows in the database; the exact test follows
    ends = ((first, last) for first in "[ ," for last in ",]")
    named = (text.contains(f"{first}{trial.number}{last}", autoescape=True) for first, last in ends)
    rows = (
        session.connection()
        .execute(
            select(Trial.number, Trial.parents, Trial.on_front).where(
                Trial.job_id == job_id, is_same, or_(Trial.on_front, *named)
            )
        )
        .all()
    )
    wanted = [number for number, parents, on_front in rows if on_front or trial.number in parents]
    return numbered(session, job_id, [*wanted, *trial.parents, trial.number])


def measured_values(
    session: Session, subjects: Iterable[str], quantity: str
) -> dict[str, list[MeasurementRecord]]:
    """Measurements of one quantity by subject, oldest first; subjects without any are not there."""
    wanted = sorted(set(subjects))
    found: dict[str, list[MeasurementRecord]] = {}
    for start in range(0, len(wanted), _CHUNK):
        query = (
            select(Measurement)
            .where(Measurement.subject.in_(wanted[start : start + _CHUNK]), Measurement.quantity == quantity)
            .order_by(Measurement.id)
        )
        for row in session.scalars(query):
            found.setdefault(row.subject, []).append(measurement_record(row))
    return found


def warnings(session: Session, job_id: str, limit: int = 1000) -> list[str]:
    """Messages of the job's warning events, each once, in order."""
    query = (
        select(Event.data)
        .where(Event.job_id == job_id, Event.kind == "warning")
        .order_by(Event.seq)
        .limit(limit)
    )
    messages = (data.get("message") for data in session.scalars(query))
    return list(dict.fromkeys(str(message) for message in messages if message))


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
    rows = (
        session.connection()
        .execute(select(Trial.number, Trial.on_front).where(Trial.job_id == job_id).order_by(Trial.number))
        .all()
    )
    chosen = evenly(
        [number for number, on_front in rows if on_front or number < 0],
        [number for number, on_front in rows if not on_front and number >= 0],
        limit,
    )
    return numbered(session, job_id, chosen)


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


def numbered(session: Session, job_id: str, numbers: Iterable[int]) -> list[TrialRecord]:
    """The trials of these numbers that there are, by number."""
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
    """Number of search trials of each job that have ended; jobs without any are there with 0.

    All ended trials are counted in the index by state; the few references among them are taken off.
    """
    of_jobs, ended = Trial.job_id.in_(list(job_ids)), sorted(FINAL_TRIAL_STATES)
    found = session.execute(
        select(Trial.job_id, func.count()).where(of_jobs, Trial.state.in_(ended)).group_by(Trial.job_id)
    )
    counts = dict.fromkeys(job_ids, 0) | dict(found.all())
    for job_id, state in session.execute(select(Trial.job_id, Trial.state).where(of_jobs, Trial.number < 0)):
        counts[job_id] -= state in FINAL_TRIAL_STATES
    return counts
