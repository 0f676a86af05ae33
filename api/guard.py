"""What every request passes before a route sees it, and what every answer carries; plain ASGI.

id -> host -> origin -> form and size of the body -> route -> security headers, count, log line
"""

import logging
import time
import uuid
from collections.abc import Collection
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics
from .problems import RequestError, problem_response, unexpected

log = logging.getLogger(__name__)

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
UPLOADS = frozenset({"/v1/datasets", "/jobs/new/data"})
"""The routes that take a file as their body."""
MAX_ADDRESS = 16 * 1024
MAX_HEADERS = 32 * 1024
LOOPBACK = ("127.0.0.1", "localhost", "::1")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "sandbox allow-scripts allow-downloads"
)
"""The offline report carries its script in itself; it runs without an origin and can fetch nothing."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether a server on this address is reached from this machine only."""
    return host in LOOPBACK or (host.startswith("127.") and host.count(".") == 3)


class Guard:
    """The outermost layer. `hosts`: names the server answers to; empty means any."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        body_limit: int,
        upload_limit: int,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._body_limit = body_limit
        self._upload_limit = upload_limit
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = uuid.uuid4().hex[:16]
        began = time.perf_counter()
        status = 500
        has_begun = False

        async def answer(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                has_begun, status = True, message["status"]
                self._complete(scope, message)
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, self._counted(receive, self._limit(scope)), answer)
        except RequestError as error:
            if not has_begun:
                refusal = problem_response(
                    Request(scope),
                    error.status,
                    error.code,
                    error.detail,
                    hint=error.hint,
                    headers=error.headers,
                )
                await refusal(scope, receive, answer)
        except Exception as error:  # the border of a request
            crash = unexpected(Request(scope), error)
            if has_begun:
                raise
            await crash(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - began
            self._metrics.count(scope, status, seconds)
            log.debug(
                "request",
                extra={
                    "request_id": scope["request_id"],
                    "method": scope["method"],
                    "route": scope.get("path"),
                    "status": status,
                    "seconds": round(seconds, 4),
                },
            )

    def _complete(self, scope: Scope, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-store")
        headers["X-Request-Id"] = scope["request_id"]

    def _check(self, scope: Scope) -> None:
        _check_address(scope)
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts and _name(host) not in self._hosts:
            raise RequestError(
                421,
                "wrong_host",
                f"this server does not answer for host '{host[:100]}'",
                hint="use the address it was started with, or name the host in PARETOFORMER_HOSTS",
            )
        if scope["method"] in SAFE:
            return
        origin = headers.get("origin")
        if headers.get("sec-fetch-site") == "cross-site" or (origin is not None and not _same(origin, host)):
            raise RequestError(403, "foreign_origin", "requests from pages of another origin are refused")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise RequestError(
                415, "unsupported_media_type", "compressed bodies are not accepted; send it plain"
            )
        length = headers.get("content-length", "0")
        limit = self._limit(scope)
        if not length.isdecimal() or len(length) > 15 or int(length) > limit:
            raise _too_large(limit)

    def _limit(self, scope: Scope) -> int:
        is_upload = scope["method"] == "POST" and scope["path"] in UPLOADS
        return self._upload_limit if is_upload else self._body_limit

    def _counted(self, receive: Receive, limit: int) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
            return message

        return counted


def _check_address(scope: Scope) -> None:
    """The server's own limits hold only for what comes in several pieces; PostgreSQL refuses a NUL."""
    if len(scope.get("raw_path", b"")) + len(scope.get("query_string", b"")) > MAX_ADDRESS:
        raise RequestError(414, "address_too_long", f"an address has at most {MAX_ADDRESS:,} bytes")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADERS:
        raise RequestError(431, "headers_too_large", f"the headers have at most {MAX_HEADERS:,} bytes")
    if "\x00" in scope["path"] or b"%00" in scope.get("query_string", b""):
        raise RequestError(422, "invalid_input", "the address has a NUL character (%00); leave it out")


def _too_large(limit: int) -> RequestError:
    return RequestError(413, "too_large", f"a request body has at most {limit:,} bytes")


def _name(host: str) -> str:
    """Host header without port, IPv6 without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _same(origin: str, host: str) -> bool:
    return urlsplit(origin).netloc.lower() == host.lower() != ""
