"""Architectures by id: canonical JSON, stored once however many trials name it."""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy.orm import Session

from space.errors import NotFoundError

from .models import Architecture
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


def get(session: Session, architecture_id: str) -> Mapping[str, Any]:
    """The canonical JSON as a mapping.

    Raises:
        NotFoundError: no trial ever had it.
    """
    row = session.get(Architecture, architecture_id)
    if row is None:
        raise NotFoundError(f"architecture {architecture_id[:64]} does not exist")
    data: Mapping[str, Any] = json.loads(row.canonical_json)
    return data
