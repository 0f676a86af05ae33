"""Idempotency keys: a request sent twice is answered once and replayed, for 24 hours and per tenant.

Use `find`, do the work and `store` the reply in one write transaction: on SQLite only one such transaction
runs at a time, on PostgreSQL the second of two equal requests fails at the primary key and finds the reply
when repeated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from space.errors import ConflictError, InvalidInputError

from .fences import clock
from .finite import finite_json
from .models import IdempotencyKey
from .rows import utc

LIFETIME_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: Mapping[str, Any]


def find(session: Session, tenant: str, key: str, digest: str, now: float | None = None) -> Reply | None:
    """The stored reply to this request; `digest` is the SHA-256 of its body.

    Raises:
        InvalidInputError: the key was used for another body.
    """
    since = utc(clock(session, now) - LIFETIME_S)
    row = session.scalar(
        select(IdempotencyKey).where(
            IdempotencyKey.tenant == tenant, IdempotencyKey.key == key, IdempotencyKey.created_at > since
        )
    )
    if row is None:
        return None
    if row.digest != digest:
        raise InvalidInputError(f"idempotency key '{key[:64]}' was used for another request; use a new key")
    return Reply(row.status, row.reply)


def store(
    session: Session, tenant: str, key: str, digest: str, reply: Reply, now: float | None = None
) -> None:
    """Keeps a reply, and forgets those that are too old.

    Raises:
        ConflictError: the same request was answered meanwhile; repeat it to get that answer.
    """
    moment = clock(session, now)
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at <= utc(moment - LIFETIME_S)))
    session.add(
        IdempotencyKey(
            tenant=tenant,
            key=key,
            digest=digest,
            status=reply.status,
            reply=finite_json("reply", reply.body),
            created_at=utc(moment),
        )
    )
    try:
        session.flush()
    except IntegrityError as error:
        raise ConflictError(f"the request with key '{key[:64]}' was answered meanwhile; repeat it") from error
