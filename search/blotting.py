"""Secrets of known shape in text that is logged, stored or answered: API keys, passwords in addresses."""

import re

_SECRETS = re.compile(r"pf_[0-9a-f]{8}_[\w-]{20,}|(?<=://)[^/@\s:]*:[^/@\s]+(?=@)")


def blotted(text: str) -> str:
    """The text with `***` in their place.

    >>> blotted("postgresql://me:secret@host/db")
    'postgresql://***@host/db'
    """
    return _SECRETS.sub("***", text)
