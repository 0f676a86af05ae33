"""One trial's row, read, changed and written with prepared statements.

A coordinator writes every trial a dozen times. As an object of the ORM each of these costs several times what
the statement does, so what is done per trial goes this way; what is done per job stays with the ORM. Writes
are left with the job's head, which does them together.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Insert, Update, bindparam, insert, select, update
from sqlalchemy.orm import Session

from ..records import Spread, TrialRecord
from .fences import HEAD, JobHead
from .finite import finite_spread, finite_values
from .models import Architecture, Job, Trial, TrialRow
from .rows import spread_json, trial_record
from .together import named

_MAX_NUMBER = 2**31
"""No trial has such a number, and neither engine could look for it."""


_ALL = tuple(field.name for field in dataclasses.fields(TrialRow))
_BESIDE = ("training_id", "canonical_json")
_FIXED = (
    "job_id", "number", "origin", "parents", "note", "asked_after", "architecture_id", "created_at", *_BESIDE,
)  # fmt: skip
_STORED = tuple(name for name in _ALL if name not in _BESIDE)
_CHANGING = tuple(name for name in _ALL if name not in _FIXED)

_ROW = (*(getattr(Trial, name) for name in _STORED), Architecture.training_id, Architecture.canonical_json)
_ARCHITECTURE = Architecture.id == Trial.architecture_id
_SELECT = select(*_ROW).join(Architecture, _ARCHITECTURE).where(Trial.job_id == bindparam("of_job"))
_FIND = _SELECT.where(Trial.number == bindparam("at"))
_OF_JOB = _SELECT.order_by(Trial.number).execution_options(yield_per=1000)
"""In parts: PostgreSQL's driver holds a whole answer until it is read, and all trials of a job are a kilobyte
each."""
_LOCK = (
    select(*HEAD, *_ROW)
    .select_from(Job)
    .join(Trial, Trial.job_id == Job.id)
    .join(Architecture, _ARCHITECTURE)
    .where(Job.id == bindparam("of_job"), Trial.number == bindparam("at"))
    .with_for_update(of=(Job, Trial))
)
"""Both rows as they are once both locks are held, the job's first. A row without a lock would be as it was
before the wait."""
_LOOK = (
    select(*HEAD, Trial.architecture_id)
    .select_from(Job)
    .outerjoin(Trial, (Trial.job_id == Job.id) & (Trial.number == bindparam("at")))
    .where(Job.id == bindparam("of_job"))
    .with_for_update(of=Job)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What a stage found out about a trial; a new value without a new spread has none. None leaves as is."""

    values: Mapping[str, float]
    spread: Mapping[str, Spread] | None = None
    kinds: Mapping[str, str] | None = None
    flags: Sequence[str] | None = None
    rung: int | None = None
    steps: int | None = None

    def put_into(self, row: TrialRow) -> dict[str, float]:
        """Changes the row; the values as they are stored.

        Raises:
            InvalidInputError: a value that is not finite or not in its range.
        """
        clean = finite_values(f"trial {row.number}", self.values)
        finite_spread(f"trial {row.number} spread of", self.spread or {})
        kept = {key: value for key, value in row.spread.items() if key not in clean}
        row.values = {**row.values, **clean}
        row.spread = {**kept, **spread_json(self.spread or {})}
        row.kinds = {**row.kinds, **(self.kinds or {})}
        row.flags = row.flags if self.flags is None else sorted(set(self.flags))
        row.rung = row.rung if self.rung is None else self.rung
        row.steps = row.steps if self.steps is None else self.steps
        return clean


def find(session: Session, job_id: str, number: int) -> TrialRow | None:
    if abs(number) >= _MAX_NUMBER:
        return None
    session.flush()  # what the ORM still holds back
    found = session.connection().execute(_FIND, {"of_job": job_id, "at": number}).one_or_none()
    return None if found is None else TrialRow(**found._mapping)


def of_job(session: Session, job_id: str) -> Iterator[TrialRow]:
    """Every trial and reference of a job by number."""
    session.flush()
    for found in session.connection().execute(_OF_JOB, {"of_job": job_id}):
        yield TrialRow(**found._mapping)


def find_many(session: Session, job_id: str, numbers: Sequence[int]) -> list[TrialRow]:
    """Those of the numbers that are there, in their order: the few that left a front."""
    found = (find(session, job_id, number) for number in numbers)
    return [row for row in found if row is not None]


def locked(session: Session, job_id: str, number: int) -> tuple[JobHead, TrialRow] | None:
    """A trial and the head of its job, both locked; None if one of them is not there."""
    if abs(number) >= _MAX_NUMBER:
        return None
    session.flush()
    found = session.connection().execute(_LOCK, {"of_job": job_id, "at": number}).one_or_none()
    if found is None:
        return None
    values = zip((*_STORED, *_BESIDE), found[len(HEAD) :], strict=True)
    return JobHead(*found[: len(HEAD)]), TrialRow(**dict(values))


def locked_place(session: Session, job_id: str, number: int) -> tuple[JobHead, str | None] | None:
    """The locked head of a job, and the id of the architecture that has this number already. None if there is
    no such job. Who waited for the lock may not see what the holder before has put there."""
    session.flush()
    found: Any = session.connection().execute(_LOOK, {"of_job": job_id, "at": number}).one_or_none()
    return None if found is None else (JobHead(*found[: len(HEAD)]), found[len(HEAD)])


def add(job: JobHead, row: TrialRow) -> None:
    """Stores a new one; its architecture is stored with it."""
    job.writes.append((_insert, {name: getattr(row, name) for name in _STORED}))


def write(job: JobHead, row: TrialRow) -> None:
    """Stores what may change of it."""
    changed = {name: getattr(row, name) for name in _CHANGING}
    job.writes.append((_update, {"of_job": row.job_id, "at": row.number, **changed}))


def _insert(_dialect: str, prefix: str) -> Insert:
    return insert(Trial).values(named(_STORED, prefix))


def _update(_dialect: str, prefix: str) -> Update:
    is_it = (Trial.job_id == bindparam(prefix + "of_job"), Trial.number == bindparam(prefix + "at"))
    return update(Trial).where(*is_it).values(named(_CHANGING, prefix))


def record(row: TrialRow) -> TrialRecord:
    return trial_record(row, row)
