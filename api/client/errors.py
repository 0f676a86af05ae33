"""What a server refused, as the error it was there."""

from collections.abc import Mapping
from typing import Any

import httpx2

from space.errors import ConflictError, InvalidInputError, NotFoundError, ServiceError, UnavailableError


class ServerError(ServiceError):
    """A refusal that is none of the program's own errors: no key, too fast, another version."""

    def __init__(
        self, message: str, *, status: int = 500, code: str = "service_error", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


_ERRORS: Mapping[int, type[ServiceError]] = {
    400: InvalidInputError,
    404: NotFoundError,
    409: ConflictError,
    422: InvalidInputError,
    503: UnavailableError,
}


def error_of(answer: httpx2.Response) -> ServiceError:
    """The error behind a problem document."""
    problem = _problem(answer)
    message = str(problem.get("detail") or f"the server answered {answer.status_code}")
    hint = problem.get("hint")
    kind = _ERRORS.get(answer.status_code)
    if kind is not None:
        return kind(message, hint=hint)
    return ServerError(
        message, status=answer.status_code, code=str(problem.get("code", "refused")), hint=hint
    )


def _problem(answer: httpx2.Response) -> Mapping[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
