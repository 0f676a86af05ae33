"""API keys: a secret is shown once and stored as its SHA-256.

    pf_<8 characters that name the key>_<43 characters, 256 random bits>

A plain hash is enough: nobody guesses 256 random bits, with or without a slow hash. A key belongs to a tenant
and has scopes: `read` looks, `write` submits, steers and uploads, `admin` also sees metrics and who did what.
"""

import datetime as dt
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from space.errors import InvalidInputError, NotFoundError, nearest

from .fences import clock
from .models import ApiKey, BrowserSession
from .rows import utc

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
USED_EVERY_S = 60.0
"""`last_used_at` is written at most that often: reading must not wait for the one writer."""
_NOTHING = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class KeyRecord:
    id: str
    """First part of the secret; harmless to show."""
    name: str
    tenant: str
    created_at: dt.datetime
    revoked_at: dt.datetime | None
    scopes: tuple[str, ...] = SCOPES
    expires_at: dt.datetime | None = None
    last_used_at: dt.datetime | None = None


def create(
    session: Session,
    *,
    name: str,
    tenant: str = "local",
    scopes: Sequence[str] = SCOPES,
    lifetime_s: float | None = None,
    now: float | None = None,
) -> tuple[KeyRecord, str]:
    """A new key and its secret, which is not stored and cannot be shown again.

    Raises:
        InvalidInputError: an unknown scope or none, a name or tenant that is not 1 to 200 printable
        characters.
    """
    for what, text in (("name", name), ("tenant", tenant)):
        if not 1 <= len(text) <= 200 or not text.isprintable():
            raise InvalidInputError(f"a key's {what} has 1 to 200 printable characters, got {len(text)}")
    key_id = secrets.token_hex(4)
    secret = f"pf_{key_id}_{secrets.token_urlsafe(32)}"
    moment = clock(session, now)
    row = ApiKey(
        id=key_id,
        name=name,
        tenant=tenant,
        sha256=_digest(secret),
        created_at=utc(moment),
        revoked_at=None,
        scopes=_checked_scopes(scopes),
        expires_at=None if lifetime_s is None else utc(moment + lifetime_s),
        last_used_at=None,
    )
    session.add(row)
    session.flush()
    return _record(row), secret


def _checked_scopes(scopes: Sequence[str]) -> str:
    for scope in scopes:
        if scope not in SCOPES:
            raise InvalidInputError(f"unknown scope '{scope[:40]}'; {nearest(scope, SCOPES)}")
    if not scopes:
        raise InvalidInputError(f"a key without a scope opens nothing; name one of {', '.join(SCOPES)}")
    return " ".join(scope for scope in SCOPES if scope in scopes)


def any_key(session: Session, now: float | None = None) -> bool:
    """Whether there is a key that opens: then every request needs one."""
    return session.scalar(select(ApiKey.id).where(*_opens(session, now)).limit(1)) is not None


def verify(session: Session, secret: str, now: float | None = None) -> KeyRecord | None:
    """The key behind a secret; None when there is none, it was revoked or it has expired.

    Takes the same steps either way.
    """
    parts = secret.split("_", 2)
    key_id = parts[1] if len(parts) == 3 and parts[0] == "pf" and parts[1].isascii() else ""
    row = session.scalar(select(ApiKey).where(ApiKey.id == key_id[:32].replace("\x00", "")))
    is_right = hmac.compare_digest(_digest(secret), row.sha256 if row else _NOTHING)
    return _record(row) if row is not None and is_right and _is_open(session, row, now) else None


def by_id(session: Session, key_id: str, now: float | None = None) -> KeyRecord | None:
    """The key of that id, if it opens."""
    row = session.scalar(select(ApiKey).where(ApiKey.id == key_id, *_opens(session, now)))
    return None if row is None else _record(row)


def is_stale(record: KeyRecord, now: float) -> bool:
    """Whether the last use was noted long enough ago to note this one."""
    return record.last_used_at is None or now - record.last_used_at.timestamp() >= USED_EVERY_S


def note_use(session: Session, key_id: str, now: float | None = None) -> None:
    """Remembers when a key was used last."""
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=utc(clock(session, now))))


def list_keys(session: Session, *, tenant: str | None = None) -> Sequence[KeyRecord]:
    """In order of creation, revoked ones too."""
    query = select(ApiKey).order_by(ApiKey.position)
    if tenant is not None:
        query = query.where(ApiKey.tenant == tenant)
    return [_record(row) for row in session.scalars(query)]


def revoke(session: Session, key_id: str, now: float | None = None) -> KeyRecord:
    """Makes the key and the browser sessions it opened useless from this transaction on; once is enough.

    Raises:
        NotFoundError: there is no such key.
    """
    row = session.scalar(select(ApiKey).where(ApiKey.id == key_id))
    if row is None:
        raise NotFoundError(f"key '{key_id[:32]}' does not exist; `paretoformer keys list` lists the ids")
    if row.revoked_at is None:
        row.revoked_at = utc(clock(session, now))
    for opened in session.scalars(select(BrowserSession).where(BrowserSession.key_id == key_id)):
        session.delete(opened)
    session.flush()
    return _record(row)


def _opens(session: Session, now: float | None) -> tuple[ColumnElement[bool], ...]:
    moment = utc(clock(session, now))
    return (ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > moment))


def _is_open(session: Session, row: ApiKey, now: float | None) -> bool:
    ends = row.expires_at
    return row.revoked_at is None and (ends is None or ends > utc(clock(session, now)))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _record(row: ApiKey) -> KeyRecord:
    return KeyRecord(
        id=row.id,
        name=row.name,
        tenant=row.tenant,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        scopes=tuple(row.scopes.split()),
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
