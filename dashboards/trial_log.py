"""What workers logged about a trial, as text: one line each, in the order in which the work ended."""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from search.records import LoggedWork

MOST_LINES = 2000
"""Of one answer; with the longest lines workers keep that is a megabyte."""
SHOWN_LINES = 200
"""On the page of a trial."""


def log_lines(works: Iterable[LoggedWork], most: int = MOST_LINES) -> list[str]:
    """The last `most` lines: moment (UTC), level, piece of work with its attempt, text.

    Attempts are counted from 1, as people count. A text of several lines stays one line.
    """
    lines = [
        f"{_moment(line)} {line['level']} {work.work}#{work.attempt + 1} {_one_line(str(line['text']))}"
        for work in works
        for line in work.lines
    ]
    return lines[-most:]


def log_text(works: Iterable[LoggedWork], most: int = MOST_LINES) -> str:
    """`log_lines` as a file; empty where nobody logged."""
    return "".join(f"{line}\n" for line in log_lines(works, most))


def _moment(line: Mapping[str, Any]) -> str:
    at = dt.datetime.fromtimestamp(float(line["at"]), dt.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    return " ".join(text.split())
