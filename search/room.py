"""Room on disk: when a job that found none may go on."""

import errno
import shutil
from pathlib import Path

LEAST_FREE_BYTES = 64 * 2**20
"""Free space from which work is tried again: some checkpoints."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_disk_full(error: OSError) -> bool:
    """No space, quota used up, or a file over its limit."""
    return error.errno in _FULL


def has_room(folder: Path) -> bool:
    """Whether the disk of a folder, or of the nearest parent that exists, has some space left."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free >= LEAST_FREE_BYTES


class Patience:
    """When to look again: waits double from one second to a minute while nothing changes."""

    def __init__(self) -> None:
        self._wait_s = FIRST_WAIT_S
        self._next: float | None = None

    def start(self, now: float) -> None:
        self._next = now + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)

    def is_over(self, now: float) -> bool:
        return self._next is None or now >= self._next

    def reset(self) -> None:
        self._wait_s, self._next = FIRST_WAIT_S, None
