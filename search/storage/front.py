"""The Pareto flag of every counted trial, kept in the transaction that counts it.

    a beats b:  v(a) <= v(b) in every objective, and v(a) != v(b) or number(a) < number(b)

`v` is the minimised objective vector. "Beats" is a strict partial order, so the trials nobody beats are the
front: no member dominates another, and of equal vectors only the lowest number stays. Whoever is beaten at
all is beaten by a member, hence a new trial is compared with members only. Search trials and references have
a front each. A job in stage `search` is judged by `values`; in stage `final` a finalist's own numbers take
their place.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, bindparam, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from ..objectives import OBJECTIVES
from . import events, trial_rows
from .fences import JobHead
from .models import Job, Trial, TrialRow

Group = Literal["search", "reference"]
Vector = tuple[float, ...]
_COLUMNS: tuple[InstrumentedAttribute[float | None], ...] = (
    Trial.objective_0,
    Trial.objective_1,
    Trial.objective_2,
    Trial.objective_3,
)


def objective_column(position: int) -> InstrumentedAttribute[float | None]:
    """Column of the job's objective at `position`, minimised."""
    return _COLUMNS[position]


def in_group(group: str) -> ColumnElement[bool]:
    """References have negative numbers."""
    return Trial.number < 0 if group == "reference" else Trial.number >= 0


def front_numbers(vectors: Mapping[int, Vector]) -> set[int]:
    """Numbers of the trials that nobody beats. O(n f) for n trials and f members.

    >>> sorted(front_numbers({0: (1.0, 2.0), 1: (2.0, 1.0), 2: (2.0, 2.0), 3: (1.0, 2.0)}))
    [0, 1]
    """
    members: list[tuple[Vector, int]] = []
    for vector, number in sorted((vector, number) for number, vector in vectors.items()):
        if not any(all(a <= b for a, b in zip(member, vector, strict=True)) for member, _ in members):
            members.append((vector, number))  # in lexicographic order only earlier trials can beat later ones
    return {number for _, number in members}


def known_values(row: Trial | TrialRow, objectives: Sequence[str], stage: str) -> tuple[float | None, ...]:
    """Every objective, minimised, of the values that count in `stage`; None where it is not known."""
    values = {**row.values, **row.final["values"]} if stage == "final" and row.final else row.values
    return tuple(OBJECTIVES[key].minimised(values[key]) if key in values else None for key in objectives)


def complete_vector(known: Sequence[float | None]) -> Vector | None:
    """The vector, unless an objective is missing."""
    vector = tuple(value for value in known if value is not None)
    return vector if len(vector) == len(known) else None


def is_counted(row: Trial | TrialRow, objectives: Sequence[str]) -> bool:
    """Completed within the constraints, every objective known, every latency measured on the whole model."""
    return (
        row.state == "completed"
        and "infeasible" not in row.flags
        and all(key in row.values for key in objectives)
        and all(row.kinds.get(key) == "measured" for key in objectives if OBJECTIVES[key].source == "latency")
    )


def refresh(session: Session, job: JobHead, row: TrialRow, now: float | None = None) -> list[int]:
    """Stores `row`, which has changed, with its vector and counted mark, and brings the flags up to date; the
    job's row is locked. Returns the numbers whose flag changed."""
    was_counted, old = row.counted, _stored(row)
    judge(job, row)
    if row.counted and not was_counted:
        return _enter(session, job, row, now)
    trial_rows.write(job, row)
    if not was_counted or (row.counted and _stored(row) == old):
        return []
    job.store(session)  # its vector is among those that are looked at
    changed = restate_group(session, job, _group(row), now)
    if row.number in changed:
        row.on_front = not row.on_front
    return changed


def judge(job: Job | JobHead, row: Trial | TrialRow) -> None:
    """Sets the row's vector and counted mark from its numbers."""
    known = (*known_values(row, job.objectives, job.stage), None, None, None, None)
    row.objective_0, row.objective_1, row.objective_2, row.objective_3 = known[:4]
    row.counted = is_counted(row, job.objectives)


def restate_job(session: Session, job: Job, now: float | None = None) -> None:
    """Every vector and flag of the job anew, for its stage."""
    rows = select(Trial).where(Trial.job_id == job.id).execution_options(populate_existing=True)
    for row in session.scalars(rows):
        judge(job, row)
    session.flush()
    for group in ("search", "reference"):
        restate_group(session, job, group, now)


def restate_group(session: Session, job: Job | JobHead, group: Group, now: float | None = None) -> list[int]:
    """The flags of one group anew, from the stored vectors; the numbers whose flag changed."""
    count = len(job.objectives)
    query = select(Trial.number, Trial.counted, Trial.on_front, *_COLUMNS[:count]).where(
        Trial.job_id == job.id, in_group(group), Trial.counted | Trial.on_front
    )
    rows = session.connection().execute(query).all()
    vectors = {row.number: complete_vector(row[3:]) for row in rows if row.counted}
    members = front_numbers({number: vector for number, vector in vectors.items() if vector is not None})
    had = {row.number for row in rows if row.on_front}
    joined, left = sorted(members - had), sorted(had - members)
    _set_flags(session, job, joined, is_member=True)
    _set_flags(session, job, left, is_member=False)
    return _tell(session, job, group, joined, left, now)


def _enter(session: Session, job: JobHead, row: TrialRow, now: float | None) -> list[int]:
    """A newly counted trial against the members: it joins unless one beats it, and those it beats leave."""
    vector = complete_vector(_stored(row)[: len(job.objectives)])
    assert vector is not None
    group = _group(row)
    asked = {"of_job": job.id, "at": row.number, **{f"v{i}": value for i, value in enumerate(vector)}}
    related = session.connection().execute(_related(len(vector), group), asked).all()
    row.on_front = not any(beats for _, beats in related)
    trial_rows.write(job, row)
    if not row.on_front:
        return []
    left = [number for number, _ in related]
    _set_flags(session, job, left, is_member=False)
    return _tell(session, job, group, [row.number], sorted(left), now)


@cache
def _related(count: int, group: Group) -> Select[int, bool]:
    """The members that beat the vector `v0`, `v1`, ... of trial `at` (true), and those that it beats."""
    pairs: list[tuple[Any, Any]] = [(column, bindparam(f"v{i}")) for i, column in enumerate(_COLUMNS[:count])]
    at: Any = bindparam("at")
    better, worse = (or_(*(a < b for a, b in pairs)), or_(*(a > b for a, b in pairs)))
    beats = and_(*(a <= b for a, b in pairs), or_(better, Trial.number < at))
    is_beaten = and_(*(a >= b for a, b in pairs), or_(worse, Trial.number > at))
    of_group = (Trial.job_id == bindparam("of_job"), in_group(group), Trial.on_front)
    return select(Trial.number, beats).where(*of_group, or_(beats, is_beaten))


def _set_flags(session: Session, job: Job | JobHead, numbers: Sequence[int], *, is_member: bool) -> None:
    if numbers:
        chosen = update(Trial).where(Trial.job_id == job.id, Trial.number.in_(numbers))
        session.connection().execute(chosen.values(on_front=is_member))


def _tell(
    session: Session,
    job: Job | JobHead,
    group: Group,
    joined: Sequence[int],
    left: Sequence[int],
    now: float | None,
) -> list[int]:
    if joined or left:
        data: dict[str, Any] = {"group": group, "joined": joined, "left": left}
        events.add(session, job, "front.changed", None, data, now)
    return [*joined, *left]


def _group(row: TrialRow) -> Group:
    return "reference" if row.number < 0 else "search"


def _stored(row: TrialRow) -> tuple[float | None, ...]:
    return (row.objective_0, row.objective_1, row.objective_2, row.objective_3)
