"""Request bodies as plain data: strict JSON for `/v1`, urlencoded forms for pages."""

import json
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from space.errors import InvalidInputError

from .problems import RequestError

MAX_DEPTH = 64
MAX_FIELDS = 200
MAX_VALUES = 20_000


async def json_body(request: Request) -> Any:
    """The body as JSON; without one an empty object.

    Raises:
        RequestError: another content type.
        InvalidInputError: not JSON, repeated keys, NaN, lone surrogates, or nested too deep.
    """
    raw = await request.body()
    if not raw:
        return {}
    _require(request, "application/json")
    value = parse_json(raw)
    if value is None:
        raise InvalidInputError("the body is null; send an object, or nothing")
    return value


async def form_body(request: Request) -> dict[str, str]:
    """The fields of a page's form; of a repeated field the last."""
    raw = await request.body()
    _require(request, "application/x-www-form-urlencoded")
    try:
        fields = parse_qsl(
            raw.decode("utf-8"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise InvalidInputError("the form cannot be read; load the page again") from error
    return {name: value.replace("\r\n", "\n") for name, value in fields}


def _require(request: Request, media_type: str) -> None:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != media_type:
        raise RequestError(
            415, "unsupported_media_type", f"content type '{given[:100]}' is not accepted; send {media_type}"
        )


def parse_json(raw: bytes) -> Any:
    """
    >>> parse_json(b'{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise InvalidInputError(f"the body is not JSON: {str(error)[:200]}") from error
    _check(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_VALUES:
        raise ValueError(f"an object has {len(pairs):,} keys, more than {MAX_VALUES:,}")
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"'{repeated[:100]}' stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _check(value: Any) -> None:
    """Depth, and texts that no encoding can write; without recursion."""
    level, count = [value], 1
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for one in level:
            if isinstance(one, str):
                _check_text(one)
            elif isinstance(one, dict):
                for name in one:
                    _check_text(name)
                deeper.extend(one.values())
            elif isinstance(one, list):
                deeper.extend(one)
        if not deeper:
            return
        count += len(deeper)
        if count > MAX_VALUES:
            raise InvalidInputError(f"the body has more than {MAX_VALUES:,} values")
        level = deeper
    raise _too_deep()


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidInputError("the body has half of a surrogate pair in a text") from error


def _too_deep() -> InvalidInputError:
    return InvalidInputError(f"the body is nested more than {MAX_DEPTH} deep")
