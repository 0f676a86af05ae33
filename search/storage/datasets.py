"""Uploaded data sets: files below the data folder that jobs of their tenant name as `data_<id>`.

The same bytes in the same form are stored once per tenant. A row is written only after its file is complete
and in its place, and taken away before the file: a file without a row is a stray, never the other way round.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from space.errors import ConflictError, InvalidInputError, NotFoundError

from ..records import Page
from .cursors import checked_limit, decode, encode
from .fences import clock
from .finite import finite_json
from .models import Dataset, JobDataset
from .rows import utc
from .upsert import insert_new

PREFIX = "data_"


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    id: str
    tenant: str
    name: str
    format: str
    path: str
    """Of its file, below the data folder."""
    size_bytes: int
    sha256: str
    facts: Mapping[str, Any]
    """What a look at the file found: names and shapes of arrays, or columns."""
    created_at: dt.datetime

    @property
    def handle(self) -> str:
        """Its name in a job."""
        return f"{PREFIX}{self.id}"


def put(
    session: Session,
    *,
    dataset_id: str,
    tenant: str,
    name: str,
    format: str,
    path: str,
    size_bytes: int,
    sha256: str,
    facts: Mapping[str, Any],
    now: float | None = None,
) -> DatasetRecord:
    """Stores it, or returns the one of the tenant with the same bytes: compare the ids."""
    insert_new(
        session,
        Dataset,
        id=dataset_id,
        tenant=tenant,
        name=name,
        format=format,
        path=path,
        size_bytes=size_bytes,
        sha256=sha256,
        facts=finite_json("facts", facts),
        created_at=utc(clock(session, now)),
    )
    same = (Dataset.tenant == tenant, Dataset.sha256 == sha256, Dataset.format == format)
    return _record(session.scalars(select(Dataset).where(*same)).one())


def get(session: Session, dataset_id: str, *, tenant: str) -> DatasetRecord:
    """By id, or by the name that jobs use.

    Raises:
        NotFoundError: there is no such data set, or it is another tenant's.
    """
    return _record(_row(session, dataset_id, tenant))


def list_datasets(session: Session, *, tenant: str, cursor: str | None = None, limit: int = 50) -> Page:
    """Data sets of a tenant, newest first.

    Raises:
        InvalidInputError: bad cursor, or a limit outside 1 to 1,000.
    """
    rows = select(Dataset).where(Dataset.tenant == tenant)
    if cursor is not None:
        (position,) = decode(cursor, 1)
        if not isinstance(position, int):
            raise InvalidInputError("cursor is not one this listing gave out; start again without it")
        rows = rows.where(Dataset.position < position)
    limit = checked_limit(limit)
    page = session.scalars(rows.order_by(Dataset.position.desc()).limit(limit + 1)).all()
    more = encode([page[limit - 1].position]) if len(page) > limit else None
    return Page([_record(row) for row in page[:limit]], more)


def used_bytes(session: Session, tenant: str) -> int:
    """Size of everything the tenant has uploaded."""
    total = session.scalar(select(func.sum(Dataset.size_bytes)).where(Dataset.tenant == tenant))
    return int(total or 0)


def attach(session: Session, dataset_id: str, job_id: str, *, tenant: str) -> None:
    """Keeps the data set for as long as the job is stored.

    Raises:
        NotFoundError: it was deleted meanwhile.
    """
    row = _row(session, dataset_id, tenant, lock=True)
    insert_new(session, JobDataset, job_id=job_id, dataset_id=row.id)


def delete(session: Session, dataset_id: str, *, tenant: str) -> DatasetRecord:
    """Forgets a data set that no stored job uses; the caller then removes its file.

    Raises:
        NotFoundError: there is no such data set, or it is another tenant's.
        ConflictError: jobs use it.
    """
    row = _row(session, dataset_id, tenant, lock=True)
    users = session.scalars(
        select(JobDataset.job_id).where(JobDataset.dataset_id == row.id).order_by(JobDataset.job_id).limit(3)
    ).all()
    if users:
        named = ", ".join(job_id[:12] for job_id in users)
        raise ConflictError(f"data set {row.id} is used by jobs ({named}); delete those first")
    record = _record(row)
    session.delete(row)
    session.flush()
    return record


def without_row(session: Session, paths: Collection[str]) -> set[str]:
    """Those of the paths that belong to no data set."""
    known = session.scalars(select(Dataset.path).where(Dataset.path.in_(list(paths))))
    return set(paths) - set(known)


def _row(session: Session, dataset_id: str, tenant: str, *, lock: bool = False) -> Dataset:
    query = select(Dataset).where(Dataset.id == dataset_id.removeprefix(PREFIX), Dataset.tenant == tenant)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = session.scalar(query)
    if row is None:
        raise NotFoundError(f"data set '{dataset_id[:64]}' does not exist")
    return row


def _record(row: Dataset) -> DatasetRecord:
    return DatasetRecord(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        format=row.format,
        path=row.path,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        facts=row.facts,
        created_at=row.created_at,
    )
