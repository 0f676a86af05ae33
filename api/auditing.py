"""Who did what: every request that changed something leaves a row, whichever route it took. Plain ASGI.

The row is written before the answer begins; a server that dies between the change and the row has changed
without a row, never the other way round.
"""

import logging
from typing import Any

from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search.storage import user_actions
from search.storage.database import Database
from space.errors import ServiceError

from .deps import Caller

log = logging.getLogger(__name__)

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
STORES_NOTHING = frozenset({"/v1/jobs:preview", "/v1/architectures:score", "/jobs/new/preview"})
_SUBJECTS = ("job_id", "export_id", "dataset_id")


class Audit:
    """Notes requests that were answered without an error and can have changed something."""

    def __init__(self, app: ASGIApp, *, database: Database) -> None:
        self._app = app
        self._database = database

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE:
            await self._app(scope, receive, send)
            return

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                await self._note(scope, message)
            await send(message)

        await self._app(scope, receive, noted)

    async def _note(self, scope: Scope, message: Message) -> None:
        caller, route = scope.get("caller"), getattr(scope.get("route"), "path", "")
        if not isinstance(caller, Caller) or not route or route in STORES_NOTHING:
            return
        try:
            await run_in_threadpool(self._store, scope, caller, route, message)
        except ServiceError as error:
            log.warning("action not noted", extra={"route": route, "problem": error.message})

    def _store(self, scope: Scope, caller: Caller, route: str, message: Message) -> None:
        with self._database.write() as session:
            user_actions.note(
                session,
                tenant=caller.tenant,
                key_id=caller.key_id,
                action=f"{scope['method']} {route}"[:64],
                subject=_subject(scope, message),
                request_id=str(scope.get("request_id", "")),
                detail={"status": message["status"], **_numbers(scope)},
            )


def _subject(scope: Scope, message: Message) -> str:
    """The id in the path, or in the address of what was made."""
    params = scope.get("path_params", {})
    for name in _SUBJECTS:
        if name in params:
            return str(params[name])[:64]
    location = Headers(raw=message["headers"]).get("location", "")
    return location.rpartition("/")[2].partition("#")[0][:64]


def _numbers(scope: Scope) -> dict[str, Any]:
    params = scope.get("path_params", {})
    return {name: str(params[name])[:64] for name in ("number", "action") if name in params}
