"""Requests to one server: the key, the errors, and repeating what may be repeated.

A GET is repeated after a broken connection, 429 and 503; anything that changes something only if it carries
an Idempotency-Key or changes nothing the second time. Pauses: 0.2, 0.4, ... s with chance, or what the
server's Retry-After says.
"""

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2

from space.errors import InvalidInputError, ServiceError, UnavailableError

from .errors import error_of

_AGAIN = frozenset({429, 503})
_LONGEST_S = 30.0
_REPEATABLE = frozenset({"GET", "DELETE"})


class Transport:
    """Use as long as you like; `close` gives the connections back."""

    def __init__(
        self,
        server: str,
        key: str | None,
        timeout_s: float,
        patience_s: float,
        sleep: Callable[[float], None] = time.sleep,
        http: httpx2.Client | None = None,
    ) -> None:
        self.server = server.rstrip("/")
        self._patience_s = patience_s
        self._sleep = sleep
        secret = os.environ.get("PARETOFORMER_API_KEY") if key is None else key
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        try:
            self._http = http or httpx2.Client(base_url=self.server, timeout=timeout_s)
        except (httpx2.InvalidURL, TypeError) as error:
            raise InvalidInputError(
                f"'{server}' is not the address of a server, like http://127.0.0.1:8765"
            ) from error

    def close(self) -> None:
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: bytes | None = None,
        query: Mapping[str, str | int | None] | None = None,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool | None = None,
    ) -> httpx2.Response:
        """One request, repeated while that is safe and may help.

        Raises:
            ServiceError: what the server answered.
            UnavailableError: it does not answer.
        """
        again = method in _REPEATABLE if is_repeatable is None else is_repeatable
        end, pauses = time.monotonic() + self._patience_s, _pauses()
        while True:
            problem, wait_s = self._try(method, path, json, content, query, headers)
            if isinstance(problem, httpx2.Response):
                return problem
            pause = next(pauses) if wait_s is None else wait_s
            if not again or not _may_pass(problem) or time.monotonic() + pause > end:
                raise problem
            self._sleep(pause)

    def _try(
        self,
        method: str,
        path: str,
        json: object,
        content: bytes | None,
        query: Mapping[str, str | int | None] | None,
        headers: Mapping[str, str] | None,
    ) -> tuple[httpx2.Response | ServiceError, float | None]:
        params = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            answer = self._http.request(
                method,
                path,
                json=json,
                content=content,
                params=params,
                headers={**self._headers, **(headers or {})},
            )
        except httpx2.UnsupportedProtocol as error:
            raise InvalidInputError(
                f"'{self.server}' is not the address of a server, like http://127.0.0.1:8765"
            ) from error
        except httpx2.HTTPError as error:
            return UnavailableError(f"server {self.server} does not answer: {error}"), None
        if answer.status_code < 400:
            return answer, None
        told = answer.headers.get("retry-after", "")
        wait_s = min(float(told), _LONGEST_S) if told.isdecimal() else None
        return error_of(answer), wait_s if answer.status_code in _AGAIN else None

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
        """A GET whose body is read as it comes.

        Raises:
            ServiceError: what the server answered instead.
        """
        with self._http.stream("GET", path, headers={**self._headers, **headers}) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise error_of(answer)
            yield answer

    def rest(self, seconds: float) -> None:
        self._sleep(seconds)


def _may_pass(problem: Any) -> bool:
    return isinstance(problem, UnavailableError) or getattr(problem, "status", None) == 429


def _pauses() -> Iterator[float]:
    pause = 0.2
    while True:
        yield pause * (0.5 + random.random())
        pause = min(2 * pause, _LONGEST_S)
