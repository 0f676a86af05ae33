"""Architectures by id: canonical JSON, stored once however many trials name it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Insert, select
from sqlalchemy.orm import Session

from space.errors import NotFoundError

from .models import Architecture, Job, Trial
from .stored_json import parse_json
from .together import Write, named, write_in_turn
from .upsert import new_row


class ArchitectureLike(Protocol):
    """What is stored of a `space.architecture.Architecture`."""

    @property
    def id(self) -> str: ...

    @property
    def training_id(self) -> str: ...

    @property
    def canonical_json(self) -> str: ...


_COLUMNS = ("id", "training_id", "canonical_json")


def put(session: Session, architecture: ArchitectureLike) -> None:
    """Stores it unless it is there."""
    write_in_turn(session.connection(), [stored(architecture)])


def stored(architecture: ArchitectureLike) -> Write:
    """What `put` does."""
    return _insert, {name: getattr(architecture, name) for name in _COLUMNS}


def _insert(dialect: str, prefix: str) -> Insert:
    return new_row(Architecture, dialect).values(named(_COLUMNS, prefix))


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
    data: Mapping[str, Any] = parse_json(row.canonical_json)
    return data


def find_many(session: Session, ids: Sequence[str]) -> dict[str, str]:
    """Canonical JSON texts of those that are stored, by id; at most some hundred ids."""
    query = select(Architecture.id, Architecture.canonical_json).where(Architecture.id.in_(ids))
    return {row.id: row.canonical_json for row in session.execute(query)}
