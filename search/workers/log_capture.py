"""Log lines of one piece of work, kept for its trial: what this thread logs between two moments."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..blotting import blotted
from .work import LogLine

PACKAGES = ("space", "evaluators", "search")
MOST_LINES = 200
"""Of one piece of work; the last ones stay."""
LONGEST = 500
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


@contextmanager
def captured(level: int = logging.INFO) -> Iterator[list[LogLine]]:
    """Lines that this thread's packages log while the context is open, fields in `extra` included."""
    handler = _Keeper(threading.get_ident(), level)
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        if logger.getEffectiveLevel() > level:
            logger.setLevel(level)
    try:
        yield handler.lines
    finally:
        for logger, old in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(old)


class _Keeper(logging.Handler):
    def __init__(self, thread: int, level: int) -> None:
        super().__init__(level)
        self.lines: list[LogLine] = []
        self._thread = thread

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self._thread:
            return
        fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        words = [record.getMessage(), *(f"{key}={value}" for key, value in fields.items())]
        if record.exc_info and record.exc_info[1] is not None:
            words.append(f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}")
        text = blotted(" ".join(words))[:LONGEST]  # before it is cut: half a secret has no shape
        self.lines.append(LogLine(record.created, record.levelname.lower(), text))
        del self.lines[:-MOST_LINES]
