"""What routes ask for: the database, who is calling, the application's services.

Who is calling is found in one place: a Bearer key, or on pages the cookie of a session that a key opened. A
method that changes something needs the scope `write`, any other `read`; some routes need `admin`.
"""

import hashlib
import threading
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from search.storage import keys, sessions
from search.storage.database import Database
from search.storage.keys import KeyRecord
from space.errors import UnavailableError

from .cursors import Cursors
from .forms import FormTokens
from .limits import Attempts, Rate, Streams
from .metrics import Metrics
from .prepared import Prepared
from .problems import RequestError
from .settings import Settings
from .watching import Watch

LOCAL = "local"
"""Tenant of whoever is on this machine."""
SESSION_COOKIE = "pf_session"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers of a proxy: whoever asks may be anywhere, although the connection is of this machine."""


@dataclass(frozen=True)
class Services:
    """Everything an application holds; made once by `create_app`."""

    settings: Settings
    database: Database
    metrics: Metrics
    needs_key: bool
    """The server is reachable from elsewhere: a key is needed even before one exists."""
    forms: FormTokens
    cursors: Cursors
    rate: Rate
    streams: Streams
    watch: Watch
    attempts: Attempts = field(default_factory=Attempts)
    prepared: Prepared = field(default_factory=Prepared)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends: streams end with it."""
    heavy: threading.Lock = field(default_factory=threading.Lock)
    """One preview or score at a time: they compute in this process."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Without keys everybody on this machine is `local` and may do everything."""

    tenant: str
    key_id: str | None = None
    scopes: tuple[str, ...] = keys.SCOPES

    @property
    def name(self) -> str:
        """What limits are counted by."""
        return self.key_id or self.tenant


def services(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found


ServicesDep = Annotated[Services, Depends(services)]


def database(held: ServicesDep) -> Database:
    return held.database


DatabaseDep = Annotated[Database, Depends(database)]


def caller(request: Request, held: ServicesDep) -> Caller:
    """Who sent the request, if it may do what it asks for.

    Raises:
        RequestError: 401, a key is needed and there is none or a wrong one (the answer does not say which);
            403, the key lacks the scope; 429, too many requests or wrong keys.
    """
    found = identified(request, held)
    if found is None:
        raise no_key(request)
    scope = "read" if request.method in _SAFE else "write"
    _need(found, scope)
    if found.key_id is not None:
        held.rate.take(found.key_id)
    request.scope["caller"] = found
    return found


def identified(request: Request, held: Services) -> Caller | None:
    """Who sent the request; None when nobody can tell."""
    secret, cookie = _bearer(request), _cookie(request)
    with held.database.read() as session:
        if not held.needs_key and not _is_forwarded(request) and not keys.any_key(session):
            return Caller(LOCAL)
        record = sessions.find(session, cookie) if cookie and not secret else None
    if secret:
        record = check_secret(request, held, secret)
    if record is None:
        return None
    _note_use(held, record)
    return Caller(record.tenant, record.id, record.scopes)


def _is_forwarded(request: Request) -> bool:
    return any(name in request.headers for name in _FORWARDED)


def check_secret(request: Request, held: Services, secret: str) -> KeyRecord | None:
    """The key behind a secret; wrong ones are counted, by where they come from and which key they name.

    Raises:
        RequestError: 429: too many wrong ones.
    """
    source = f"source {request.client.host if request.client else ''}"
    held.attempts.check(source)
    with held.database.read() as session:
        record = keys.verify(session, secret)
    if record is not None:
        held.attempts.succeeded(source)
        return record
    named = f"key {hashlib.sha256(secret[:11].encode('utf-8', 'replace')).hexdigest()[:16]}"
    held.attempts.check(named)  # only now: else a stranger could lock the key's owner out
    held.attempts.failed(source, named)
    return None


def no_key(request: Request) -> RequestError:
    """The same answer for no key, a wrong, a revoked and an expired one."""
    is_page = not request.url.path.startswith("/v1")
    return RequestError(
        401,
        "unauthorised",
        "a valid key is needed",
        hint="sign in at /login with a key"
        if is_page
        else "send it in the header `Authorization: Bearer KEY`; `paretoformer keys create NAME` makes one",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _need(found: Caller, scope: str) -> None:
    if scope not in found.scopes:
        raise RequestError(
            403,
            "missing_scope",
            f"this key has the scopes {', '.join(found.scopes)}; the request needs '{scope}'",
            hint=f"make a key that may: `paretoformer keys create NAME --scope {scope}`",
        )


def _bearer(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _cookie(request: Request) -> str:
    """The session of a page; `/v1` takes keys only, since browsers send cookies unasked."""
    return "" if request.url.path.startswith("/v1") else request.cookies.get(SESSION_COOKIE, "")


def _note_use(held: Services, record: KeyRecord) -> None:
    """At most once a minute; a database that is busy writing does not hold up a reader for it."""
    if not keys.is_stale(record, held.database.now()):
        return
    try:
        with held.database.write() as session:
            keys.note_use(session, record.id)
    except UnavailableError:
        return


CallerDep = Annotated[Caller, Depends(caller)]


def tenant(found: CallerDep) -> str:
    """The tenant of the caller."""
    return found.tenant


TenantDep = Annotated[str, Depends(tenant)]


def administrator(found: CallerDep) -> Caller:
    """A caller with the scope `admin`."""
    _need(found, "admin")
    return found


AdminDep = Annotated[Caller, Depends(administrator)]
