"""The application: built whole by `create_app`, nothing at import."""

import importlib.metadata
from typing import Any

from fastapi import FastAPI

from search.storage import keys, server_secrets
from search.storage.database import Database
from space.errors import InvalidInputError

from .auditing import Audit
from .cursors import Cursors
from .deps import Services
from .documents import openapi
from .forms import FormTokens
from .guard import LOOPBACK, Guard, is_loopback
from .limits import Rate, Streams
from .metrics import Metrics
from .problems import install_problems
from .routes import (
    access,
    architectures,
    catalogue,
    datasets,
    events,
    exports,
    health,
    jobs,
    pages,
    retraining,
    trials,
)
from .settings import Settings
from .watching import Watch

MODULES = (
    jobs, trials, events, exports, retraining, datasets, architectures, catalogue, access, health, pages
)  # fmt: skip


def create_app(settings: Settings, database: Database) -> FastAPI:
    """The HTTP interface and the pages over one database."""
    version = importlib.metadata.version("paretoformer")
    app = FastAPI(
        title="paretoformer",
        version=version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"operation_spans": False, "logs": False},  # a span per request; errors are logged by us
    )
    metrics = Metrics(database)
    secret = _shared_secret(database)
    app.state.services = Services(
        settings=settings,
        database=database,
        metrics=metrics,
        needs_key=not is_loopback(settings.host),
        forms=FormTokens(secret),
        cursors=Cursors(secret),
        rate=Rate(settings.rate_limit),
        streams=Streams(settings.stream_limit),
        watch=Watch(database),
    )
    for module in MODULES:
        app.include_router(module.router)
    install_problems(app)
    app.add_middleware(Audit, database=database)
    app.add_middleware(
        Guard,
        hosts=allowed_hosts(settings),
        body_limit=settings.body_limit,
        upload_limit=settings.dataset_limit,
        metrics=metrics,
    )
    document: dict[str, Any] = {}

    def described() -> dict[str, Any]:
        if not document:
            document.update(openapi(app, version))
        return document

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's documented way to change the document
    return app


def _shared_secret(database: Database) -> bytes:
    """What all servers of the database sign with; made by the first of them."""
    with database.write() as session:
        return server_secrets.shared(session, "server")


def allowed_hosts(settings: Settings) -> set[str]:
    """Names in the Host header; empty means any. A server on loopback has no others, so rebinding fails."""
    if is_loopback(settings.host):
        return {*LOOPBACK, settings.host, *settings.hosts}
    return {*settings.hosts, *LOOPBACK} if settings.hosts else set()


def check_binding(settings: Settings, database: Database) -> None:
    """
    Raises:
        InvalidInputError: others can reach the address and there is no key. There is no override.
    """
    if is_loopback(settings.host):
        return
    with database.read() as session:
        if keys.any_key(session):
            return
    raise InvalidInputError(
        f"host {settings.host} can be reached by others and there is no key: nothing was started",
        hint="make one with `paretoformer keys create NAME`, or leave --host out",
    )
