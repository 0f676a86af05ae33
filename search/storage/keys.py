"""API keys: a secret is shown once and stored as its SHA-256.

    pf_<8 characters that name the key>_<43 characters, 256 random bits>

A plain hash is enough: nobody guesses 256 random bits, with or without a slow hash.
"""

import datetime as dt
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from space.errors import NotFoundError

from .fences import clock
from .models import ApiKey
from .rows import utc

_NOTHING = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class KeyRecord:
    id: str
    """First part of the secret; harmless to show."""
    name: str
    tenant: str
    created_at: dt.datetime
    revoked_at: dt.datetime | None


def create(
    session: Session, *, name: str, tenant: str = "local", now: float | None = None
) -> tuple[KeyRecord, str]:
    """A new key and its secret, which is not stored and cannot be shown again."""
    key_id = secrets.token_hex(4)
    secret = f"pf_{key_id}_{secrets.token_urlsafe(32)}"
    row = ApiKey(
        id=key_id,
        name=name,
        tenant=tenant,
        sha256=_digest(secret),
        created_at=utc(clock(session, now)),
        revoked_at=None,
    )
    session.add(row)
    session.flush()
    return _record(row), secret


def verify(session: Session, secret: str) -> KeyRecord | None:
    """The key behind a secret; None when there is none or it was revoked. Takes the same steps either way."""
    parts = secret.split("_", 2)
    key_id = parts[1] if len(parts) == 3 and parts[0] == "pf" and parts[1].isascii() else ""
    row = session.scalar(select(ApiKey).where(ApiKey.id == key_id[:32].replace("\x00", "")))
    is_right = hmac.compare_digest(_digest(secret), row.sha256 if row else _NOTHING)
    return _record(row) if row is not None and is_right and row.revoked_at is None else None


def list_keys(session: Session, *, tenant: str | None = None) -> Sequence[KeyRecord]:
    """In order of creation, revoked ones too."""
    query = select(ApiKey).order_by(ApiKey.position)
    if tenant is not None:
        query = query.where(ApiKey.tenant == tenant)
    return [_record(row) for row in session.scalars(query)]


def revoke(session: Session, key_id: str, now: float | None = None) -> KeyRecord:
    """Makes the key useless from this transaction on; once is enough.

    Raises:
        NotFoundError: there is no such key.
    """
    row = session.scalar(select(ApiKey).where(ApiKey.id == key_id))
    if row is None:
        raise NotFoundError(f"key '{key_id[:32]}' does not exist; `paretoformer keys list` lists the ids")
    if row.revoked_at is None:
        row.revoked_at = utc(clock(session, now))
    session.flush()
    return _record(row)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _record(row: ApiKey) -> KeyRecord:
    return KeyRecord(row.id, row.name, row.tenant, row.created_at, row.revoked_at)
