"""Cursors of listings: where the page ended, as text that clients hand back unread."""

import base64
import binascii
import json
from collections.abc import Sequence

from space.errors import InvalidInputError

MAX_LIMIT = 1000


def encode(position: Sequence[float | int | str | None]) -> str:
    """
    >>> decode(encode([0.5, 7]), 2)
    [0.5, 7]
    """
    text = json.dumps(list(position), separators=(",", ":"), allow_nan=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, length: int) -> list[float | int | str | None]:
    """
    Raises:
        InvalidInputError: not a cursor of this listing.
    """
    bad = InvalidInputError("cursor is not one this listing gave out; start again without it")
    if len(cursor) > 500 or not cursor.isascii():
        raise bad
    try:
        position = json.loads(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        )
    except (binascii.Error, ValueError, RecursionError) as error:
        raise bad from error
    if not isinstance(position, list) or len(position) != length or not all(map(_is_scalar, position)):
        raise bad
    return position


def _is_scalar(value: object) -> bool:
    """Also within what both engines can compare: 64-bit integers, finite floats."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or isinstance(value, str) or (isinstance(value, float) and abs(value) < float("inf"))


def checked_limit(limit: int) -> int:
    """
    Raises:
        InvalidInputError: outside 1 to 1,000.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInputError(f"limit={limit} is outside 1 to {MAX_LIMIT}")
    return limit
