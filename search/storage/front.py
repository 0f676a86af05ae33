"""The Pareto flag of every counted trial, kept in the transaction that counts it.

    a beats b:  v(a) <= v(b) in every objective, and v(a) != v(b) or number(a) < number(b)

`v` is the minimised objective vector. "Beats" is a strict partial order, so the trials nobody beats are the
front: no member dominates another, and of equal vectors only the lowest number stays. Whoever is beaten at
all is beaten by a member, hence a new trial is compared with members only. Search trials and references have
a front each. A job in stage `search` is judged by `values`; in stage `final` a finalist's own numbers take
their place.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from ..objectives import OBJECTIVES
from . import events
from .models import Job, Trial

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


def known_values(row: Trial, objectives: Sequence[str], stage: str) -> tuple[float | None, ...]:
    """Every objective, minimised, of the values that count in `stage`; None where it is not known."""
    values = {**row.values, **row.final["values"]} if stage == "final" and row.final else row.values
    return tuple(OBJECTIVES[key].minimised(values[key]) if key in values else None for key in objectives)


def complete_vector(known: Sequence[float | None]) -> Vector | None:
    """The vector, unless an objective is missing."""
    vector = tuple(value for value in known if value is not None)
    return vector if len(vector) == len(known) else None


def is_counted(row: Trial, objectives: Sequence[str]) -> bool:
    """Completed within the constraints, every objective known, every latency measured on the whole model."""
    return (
        row.state == "completed"
        and "infeasible" not in row.flags
        and all(key in row.values for key in objectives)
        and all(row.kinds.get(key) == "measured" for key in objectives if OBJECTIVES[key].source == "latency")
    )


def refresh(session: Session, job: Job, row: Trial, now: float | None = None) -> Sequence[Trial]:
    """Brings vector, counted mark and flags up to date after `row` changed; the job's row is locked. Returns
    the trials whose flag changed."""
    was_counted, old = row.counted, _stored(row)
    _store(row, known_values(row, job.objectives, job.stage))
    row.counted = is_counted(row, job.objectives)
    if row.counted == was_counted and _stored(row) == old:
        return ()
    group = "reference" if row.number < 0 else "search"
    if row.counted and not was_counted:
        return _enter(session, job, row, group, now)
    return restate_group(session, job, group, now) if row.counted or was_counted else ()


def restate_job(session: Session, job: Job, now: float | None = None) -> None:
    """Every vector and flag of the job anew, for its stage."""
    for row in session.scalars(select(Trial).where(Trial.job_id == job.id)):
        _store(row, known_values(row, job.objectives, job.stage))
        row.counted = is_counted(row, job.objectives)
    for group in ("search", "reference"):
        restate_group(session, job, group, now)


def restate_group(session: Session, job: Job, group: str, now: float | None = None) -> Sequence[Trial]:
    """The flags of one group anew, from the stored vectors; the trials whose flag changed."""
    session.flush()
    rows = session.scalars(
        select(Trial).where(Trial.job_id == job.id, in_group(group), Trial.counted | Trial.on_front)
    ).all()
    vectors = {row.number: stored_vector(row, len(job.objectives)) for row in rows if row.counted}
    members = front_numbers({number: vector for number, vector in vectors.items() if vector is not None})
    joined = [row for row in rows if row.number in members and not row.on_front]
    left = [row for row in rows if row.number not in members and row.on_front]
    return _flag(session, job, group, joined, left, now)


def _enter(session: Session, job: Job, row: Trial, group: str, now: float | None) -> Sequence[Trial]:
    """A newly counted trial against the members: it joins unless one beats it, and those it beats leave."""
    session.flush()
    vector = stored_vector(row, len(job.objectives))
    assert vector is not None
    columns = _COLUMNS[: len(vector)]
    members = select(Trial).where(Trial.job_id == job.id, in_group(group), Trial.on_front)
    no_worse = and_(*(column <= value for column, value in zip(columns, vector, strict=True)))
    no_better = and_(*(column >= value for column, value in zip(columns, vector, strict=True)))
    better = or_(*(column < value for column, value in zip(columns, vector, strict=True)))
    worse = or_(*(column > value for column, value in zip(columns, vector, strict=True)))
    if session.scalar(members.where(no_worse, or_(better, Trial.number < row.number)).limit(1)) is not None:
        return ()
    left = session.scalars(members.where(no_better, or_(worse, Trial.number > row.number))).all()
    return _flag(session, job, group, [row], left, now)


def _flag(
    session: Session,
    job: Job,
    group: str,
    joined: Sequence[Trial],
    left: Sequence[Trial],
    now: float | None,
) -> Sequence[Trial]:
    for row in joined:
        row.on_front = True
    for row in left:
        row.on_front = False
    if joined or left:
        data = {
            "group": group,
            "joined": sorted(row.number for row in joined),
            "left": sorted(row.number for row in left),
        }
        events.add(session, job, "front.changed", None, data, now)
    session.flush()
    return [*joined, *left]


def stored_vector(row: Trial, count: int) -> Vector | None:
    """The first `count` objective columns, unless one is empty."""
    return complete_vector(_stored(row)[:count])


def _stored(row: Trial) -> tuple[float | None, ...]:
    return (row.objective_0, row.objective_1, row.objective_2, row.objective_3)


def _store(row: Trial, known: Sequence[float | None]) -> None:
    padded = (*known, None, None, None, None)
    row.objective_0, row.objective_1, row.objective_2, row.objective_3 = padded[:4]
