"""Entity tags: `ETag`, `If-None-Match` and `If-Match` of RFC 9110, sections 8.8.3 and 13.1."""

import re

from .problems import RequestError

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def tag_of(*parts: object) -> str:
    """
    >>> tag_of(3, "search")
    '"3-search"'
    """
    return f'"{"-".join(map(str, parts))}"'


def is_known(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has what `tag` names: weak comparison, of a list or `*`.

    >>> is_known('W/"2", "3"', '"3"'), is_known("*", '"3"'), is_known('"2"', '"3"'), is_known(None, '"3"')
    (True, True, False, False)
    """
    return _matches(if_none_match, tag, is_weak_allowed=True)


def require(if_match: str | None, tag: str, what: str) -> None:
    """
    Raises:
        RequestError: 412; the client saw another version of it.
    """
    if if_match is not None and not _matches(if_match, tag, is_weak_allowed=False):
        raise RequestError(
            412, "precondition_failed", f"{what} has changed: it is {tag} now; read it again first"
        )


def _matches(header: str | None, tag: str, *, is_weak_allowed: bool) -> bool:
    if header is None:
        return False
    if header.strip() == "*":
        return True
    found = _TAG.findall(header)
    return tag in ([one.removeprefix("W/") for one in found] if is_weak_allowed else found)
