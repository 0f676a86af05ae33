"""Errors as problem documents (RFC 9457): the one table from error to status, for domain and framework alike.

A page request gets the same as HTML. Nothing of an unexpected error leaves the process but its request id.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from search.export_files import ArtefactMissingError
from space.errors import (
    ConflictError,
    EvaluationError,
    InvalidArchitectureError,
    InvalidInputError,
    NotFoundError,
    ServiceError,
    UnavailableError,
    UnsupportedError,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
STATUS: Mapping[type[ServiceError], int] = {
    InvalidArchitectureError: 422,
    InvalidInputError: 422,
    UnsupportedError: 422,
    EvaluationError: 422,
    NotFoundError: 404,
    ArtefactMissingError: 410,
    ConflictError: 409,
    UnavailableError: 503,
    ServiceError: 500,
}
RETRY_S = 5


class Problem(BaseModel):
    """What went wrong and what to do about it."""

    type: str = Field(description="Stable name of the error, a URN")
    title: str = Field(description="The status in words")
    status: int
    detail: str = Field(description="What is wrong with which value, and the way out")
    code: str = Field(description="The last part of `type`")
    hint: str | None = Field(None, description="What to do, where there is more to say")
    request_id: str = Field(description="Also in the server's log and in header X-Request-Id")


class RequestError(Exception):
    """A request refused before any route: its form, size, origin or key."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.hint = status, code, detail, hint
        self.headers = dict(headers or {})


def install_problems(app: FastAPI) -> None:
    """Every error of the application ends here."""
    app.add_exception_handler(ServiceError, _domain)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(HTTPException, _framework)


def status_of(error: ServiceError) -> int:
    """The status of the nearest class in the table."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem_response(
    request: Request,
    status: int,
    code: str,
    detail: str,
    *,
    hint: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document, or a page for a person."""
    title = HTTPStatus(status).phrase
    if wants_page(request):
        from dashboards import error_page

        return HTMLResponse(error_page(status, title, detail, hint=hint), status, dict(headers or {}))
    problem = Problem(
        type=f"urn:paretoformer:{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        hint=hint,
        request_id=request_id(request),
    )
    return JSONResponse(problem.model_dump(), status, dict(headers or {}), media_type=MEDIA_TYPE)


def wants_page(request: Request) -> bool:
    """A browser asked for a page."""
    return not request.url.path.startswith("/v1") and "text/html" in request.headers.get("accept", "")


def request_id(request: Request) -> str:
    """The id that the guard gave to the request."""
    return str(request.scope.get("request_id", ""))


def _domain(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    status = status_of(error)
    if status >= 500:
        log.warning("request failed", extra={"request_id": request_id(request), "problem": error.message})
    headers = {"Retry-After": str(RETRY_S)} if status == 503 else None
    return problem_response(request, status, error.code, error.message, hint=error.hint, headers=headers)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    if error.status == 401 and request.method == "GET" and wants_page(request):
        there = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?{urlencode({'next': there})}", 303)
    return problem_response(
        request, error.status, error.code, error.detail, hint=error.hint, headers=error.headers
    )


def _parameters(request: Request, error: Exception) -> Response:
    """Path and query parameters that the framework refused."""
    assert isinstance(error, RequestValidationError)
    lines = [
        f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg'].lower()}" for one in error.errors()
    ]
    return problem_response(request, 422, "invalid_input", "\n".join(lines))


def _framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    details = {
        404: f"there is nothing at {request.url.path[:200]}; /docs lists what there is",
        405: f"{request.method} is not possible at {request.url.path[:200]}; /docs lists what is",
    }
    return problem_response(
        request,
        error.status_code,
        codes.get(error.status_code, "refused"),
        details.get(error.status_code, str(error.detail)),
        headers={"Allow": ", ".join(sorted(allowed(request)))} if error.status_code == 405 else error.headers,
    )


def allowed(request: Request) -> set[str]:
    """Every method of the address: the framework names those of the first route only."""
    found: set[str] = set()
    for method in ("GET", "POST", "PATCH", "PUT", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found.add(method)
    return found


def unexpected(request: Request, error: Exception) -> Response:
    """The answer to a fault of this program; the log has the rest."""
    log.error("request crashed", exc_info=error, extra={"request_id": request_id(request)})
    return problem_response(
        request,
        500,
        "internal",
        "an internal error; the server's log has it under this request's id",
        hint=f"request id {request_id(request)}",
    )
