"""Who did what: one row per change that somebody asked for, in the transaction that made it."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from space.errors import InvalidInputError

from ..records import Page
from .cursors import checked_limit, decode, encode
from .fences import clock
from .finite import finite_json
from .models import UserAction
from .rows import utc


@dataclass(frozen=True, slots=True)
class UserActionRecord:
    at: dt.datetime
    tenant: str
    key_id: str | None
    """The key's first part; None on a server without keys."""
    action: str
    """What was asked, `jobs.create` and the like."""
    subject: str
    """Id of what it was asked of."""
    request_id: str
    detail: Mapping[str, Any]


def note(
    session: Session,
    *,
    tenant: str,
    key_id: str | None,
    action: str,
    subject: str,
    request_id: str = "",
    detail: Mapping[str, Any] | None = None,
    now: float | None = None,
) -> None:
    """Remembers one action."""
    session.add(
        UserAction(
            at=utc(clock(session, now)),
            tenant=tenant,
            key_id=key_id,
            action=action,
            subject=subject,
            request_id=request_id,
            detail=finite_json("detail", detail or {}),
        )
    )


def list_actions(session: Session, *, tenant: str, cursor: str | None = None, limit: int = 100) -> Page:
    """Actions of a tenant, newest first.

    Raises:
        InvalidInputError: bad cursor, or a limit outside 1 to 1,000.
    """
    rows = select(UserAction).where(UserAction.tenant == tenant)
    if cursor is not None:
        (last,) = decode(cursor, 1)
        if not isinstance(last, int):
            raise InvalidInputError("cursor is not one this listing gave out; start again without it")
        rows = rows.where(UserAction.id < last)
    limit = checked_limit(limit)
    page = session.scalars(rows.order_by(UserAction.id.desc()).limit(limit + 1)).all()
    more = encode([page[limit - 1].id]) if len(page) > limit else None
    return Page([_record(row) for row in page[:limit]], more)


def _record(row: UserAction) -> UserActionRecord:
    return UserActionRecord(
        row.at, row.tenant, row.key_id, row.action, row.subject, row.request_id, row.detail
    )
