"""Secrets of known shape in text that is logged, stored or answered: API keys, passwords in addresses."""

import re

_SECRETS = re.compile(
    r"pf_[0-9a-f]{8}_[\w-]{20,}|(?<=://)[^/@\s:]*:[^@\s'\x22]+(?=@)|(?<=[?&]password=)[^&\s'\x22]+"
)


def blotted(text: str) -> str:
    """The text with `***` in their place.

    >>> blotted("postgresql://me:secret@host/db")
    'postgresql://***@host/db'
    >>> blotted("a slash is no end: postgresql://me:sec/ret@host/db")
    'a slash is no end: postgresql://***@host/db'
    >>> blotted("postgresql://host/db?user=me&password=secret&sslmode=require")
    'postgresql://host/db?user=me&password=***&sslmode=require'
    """
    return _SECRETS.sub("***", text)
