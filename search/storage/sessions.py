"""Browser sessions: a person shows a key once, and a random cookie stands for it until it ends.

The cookie is stored as its SHA-256. It opens what its key opens, no longer than the key does.
"""

import hashlib
import secrets

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from . import keys
from .fences import clock
from .keys import KeyRecord
from .models import BrowserSession
from .rows import utc

LIFETIME_S = 12 * 3600.0


def begin(session: Session, key_id: str, now: float | None = None) -> str:
    """A new session of that key: the text of its cookie. Sessions that have ended are forgotten."""
    moment = clock(session, now)
    session.execute(delete(BrowserSession).where(BrowserSession.expires_at <= utc(moment)))
    token = secrets.token_urlsafe(32)
    session.add(
        BrowserSession(
            sha256=_digest(token),
            key_id=key_id,
            created_at=utc(moment),
            expires_at=utc(moment + LIFETIME_S),
        )
    )
    session.flush()
    return token


def find(session: Session, token: str, now: float | None = None) -> KeyRecord | None:
    """The key of a session that lasts, if the key still opens."""
    moment = clock(session, now)
    query = select(BrowserSession.key_id).where(
        BrowserSession.sha256 == _digest(token), BrowserSession.expires_at > utc(moment)
    )
    key_id = session.scalar(query)
    return None if key_id is None else keys.by_id(session, key_id, moment)


def end(session: Session, token: str) -> None:
    """Forgets a session; an unknown one changes nothing."""
    session.execute(delete(BrowserSession).where(BrowserSession.sha256 == _digest(token)))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
