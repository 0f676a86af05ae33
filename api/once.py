"""Requests with an Idempotency-Key: done once, answered the same way each time for 24 hours, per tenant."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

from fastapi import Header, Response
from sqlalchemy.orm import Session

from search.storage import idempotency
from search.storage.database import Database
from search.storage.idempotency import Reply
from space.errors import ConflictError, NotFoundError

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]*$",
        description="Repeats are answered once",
    ),
]


@runtime_checkable
class Getter(Protocol):
    """The record with an id; raises NotFoundError where the tenant has none."""

    def __call__(self, session: Session, id: str, /, *, tenant: str) -> object: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be a repetition: who, which key, and the digest of what was sent."""

    tenant: str
    key: str | None
    digest: str
    get: Getter
    """Of what the request makes."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply, and whether it is an earlier one."""

    reply: Reply
    is_replay: bool = False

    def write(self, response: Response, location: str) -> Any:
        """Status and headers into the response; returns the body."""
        response.status_code = self.reply.status
        response.headers["Location"] = location.format(id=self.reply.body["id"])
        if self.is_replay:
            response.headers["Idempotent-Replayed"] = "true"
        return self.reply.body


def asked(tenant: str, key: str | None, route: str, data: object, get: Getter) -> Asked:
    """`route`: the same key on another route is another body."""
    text = json.dumps([route, data], sort_keys=True)
    return Asked(tenant, key, hashlib.sha256(text.encode()).hexdigest(), get)


def known(database: Database, one: Asked) -> Answered | None:
    """The stored reply, if this is a repetition: looked up before anything is computed.

    Raises:
        InvalidInputError: the key was used for another body.
        ConflictError: what the first request made has been deleted.
    """
    if one.key is None:
        return None
    with database.read() as session:
        return _replay(session, one, one.key)


def _replay(session: Session, one: Asked, key: str) -> Answered | None:
    """A late repetition does not bring back what somebody has deleted, nor says that it is there."""
    found = idempotency.find(session, one.tenant, key, one.digest)
    if found is None:
        return None
    made = str(found.body["id"])
    try:
        one.get(session, made, tenant=one.tenant)
    except NotFoundError as error:
        raise ConflictError(
            f"the request with idempotency key '{key[:64]}' made {made}, which was deleted since",
            hint="use a new key to make another",
        ) from error
    return Answered(found, is_replay=True)


def answer(database: Database, one: Asked, work: Callable[[Session], Reply]) -> Answered:
    """Does the work in one transaction with the note that it is done; of two at once, one does it."""
    try:
        with database.write() as session:
            if one.key is not None and (before := _replay(session, one, one.key)) is not None:
                return before
            reply = work(session)
            if one.key is not None:
                idempotency.store(session, one.tenant, one.key, one.digest, reply)
            return Answered(reply)
    except ConflictError:
        again = known(database, one)  # somebody with the same key was faster, or it is a real conflict
        if again is None:
            raise
        return again
