"""A small client of the HTTP interface, for commands with `--server`."""

import os
from collections.abc import Mapping
from typing import Any

from space.errors import ConflictError, InvalidInputError, NotFoundError, ServiceError, UnavailableError

_ERRORS: Mapping[int, type[ServiceError]] = {
    400: InvalidInputError,
    404: NotFoundError,
    409: ConflictError,
    422: InvalidInputError,
    503: UnavailableError,
}
_TIMEOUT_S = 120.0
"""A job is planned before it is accepted: that reads its data."""


def ask(server: str, method: str, path: str, body: object = None, **query: str | int | None) -> Any:
    """One request; the key comes from PARETOFORMER_API_KEY. Returns the answer's JSON.

    Raises:
        ServiceError: what the server answered, as the error it was there.
    """
    import httpx2

    key = os.environ.get("PARETOFORMER_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    address = f"{server.rstrip('/')}/v1{path}"
    try:
        answer = httpx2.request(
            method,
            address,
            json=body,
            params={name: value for name, value in query.items() if value is not None},
            headers=headers,
            timeout=_TIMEOUT_S,
        )
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise InvalidInputError(
            f"--server '{server}' is not an address like http://127.0.0.1:8765"
        ) from error
    except httpx2.HTTPError as error:
        raise UnavailableError(f"server {server} does not answer: {error}") from error
    if answer.is_success:
        return answer.json() if answer.content else None
    raise _error(answer)


def _error(answer: Any) -> ServiceError:
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    message = problem.get("detail") or f"the server answered {answer.status_code}"
    return _ERRORS.get(answer.status_code, ServiceError)(message, hint=problem.get("hint"))
