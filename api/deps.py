"""What routes ask for: the database, who is calling, the application's services."""

import base64
import binascii
import threading
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from search.storage import keys
from search.storage.database import Database

from .forms import FormTokens
from .metrics import Metrics
from .problems import RequestError
from .settings import Settings

LOCAL = "local"
"""Tenant of whoever is on this machine."""


@dataclass(frozen=True)
class Services:
    """Everything an application holds; made once by `create_app`."""

    settings: Settings
    database: Database
    metrics: Metrics
    needs_key: bool
    """The server is reachable from elsewhere: a key is needed even before one exists."""
    forms: FormTokens = field(default_factory=FormTokens)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends: streams end with it."""
    heavy: threading.Lock = field(default_factory=threading.Lock)
    """One preview or score at a time: they compute in this process."""


def services(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found


ServicesDep = Annotated[Services, Depends(services)]


def database(held: ServicesDep) -> Database:
    return held.database


DatabaseDep = Annotated[Database, Depends(database)]


def tenant(request: Request, held: ServicesDep) -> str:
    """The tenant of the key in the Authorization header: `Bearer KEY`; on pages also `Basic`, as password.

    Raises:
        RequestError: a key is needed, and there is none or a wrong one. The answer does not say which.
    """
    with held.database.read() as session:
        needs_key = held.needs_key or any(key.revoked_at is None for key in keys.list_keys(session))
        if not needs_key:
            return LOCAL
        record = keys.verify(session, _secret(request))
    if record is not None:
        return record.tenant
    is_page = not request.url.path.startswith("/v1")
    raise RequestError(
        401,
        "unauthorised",
        "a valid key is needed",
        hint="send it in the header `Authorization: Bearer KEY`; `paretoformer keys create NAME` makes one",
        headers={
            "WWW-Authenticate": 'Basic realm="paretoformer: any name, the key as password"'
            if is_page
            else "Bearer"
        },
    )


def _secret(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic" and not request.url.path.startswith("/v1"):
        try:
            return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


TenantDep = Annotated[str, Depends(tenant)]
