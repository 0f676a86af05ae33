"""Architectures by id: canonical JSON, stored once however many trials name it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from space.errors import NotFoundError

from .models import Architecture, Job, Trial
from .upsert import insert_new


class ArchitectureLike(Protocol):
    """What is stored of a `space.architecture.Architecture`."""

    @property
    def id(self) -> str: ...

    @property
    def training_id(self) -> str: ...

    @property
    def canonical_json(self) -> str: ...


def put(session: Session, architecture: ArchitectureLike) -> None:
    """Stores it unless it is there."""
    insert_new(
        session,
        Architecture,
        id=architecture.id,
        training_id=architecture.training_id,
        canonical_json=architecture.canonical_json,
    )


def get(session: Session, architecture_id: str, *, tenant: str) -> Mapping[str, Any]:
    """The canonical JSON as a mapping.

    Raises:
        NotFoundError: no trial of this tenant's jobs has it.
    """
    is_theirs = (
        select(Trial.id)
        .join(Job, Job.id == Trial.job_id)
        .where(Trial.architecture_id == Architecture.id, Job.tenant == tenant)
        .exists()
    )
    row = session.scalar(select(Architecture).where(Architecture.id == architecture_id, is_theirs))
    if row is None:
        raise NotFoundError(f"architecture {architecture_id[:64]} does not exist")
    data: Mapping[str, Any] = json.loads(row.canonical_json)
    return data


def find_many(session: Session, ids: Sequence[str]) -> dict[str, str]:
    """Canonical JSON texts of those that are stored, by id; at most some hundred ids."""
    query = select(Architecture.id, Architecture.canonical_json).where(Architecture.id.in_(ids))
    return {row.id: row.canonical_json for row in session.execute(query)}
