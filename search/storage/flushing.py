"""SQLite commits that survive a loss of power, flushed together.

With `synchronous=FULL` every commit flushes the write-ahead log while it holds the write lock, so writers
wait for the disk one after the other. Here a commit only appends to the log (`NORMAL`), gives the lock back,
and is acknowledged after a flush of the log that began later: one flush serves all commits before it. Others
may read a commit the moment before it is acknowledged.

    commit 1 --+                       +-- commits 2, 3, 4 --+
               +-- flush (1) ----------+-- flush (2, 3, 4) --+-- ...

`NORMAL` itself flushes the log before a checkpoint and its header when the log begins anew; what `FULL` adds
is just this flush. Source: sqlite.org/pragma.html#pragma_synchronous, sqlite.org/wal.html.
"""

import os
import threading
from pathlib import Path


class GroupedFlush:
    """Flushes one file on behalf of many threads."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._turn = threading.Condition()
        self._asked = 0
        """Commits so far."""
        self._flushed = 0
        """Of these, how many are on the disk."""
        self._is_flushing = False

    def wait(self) -> None:
        """Until what the caller has written is on the disk.

        Raises:
            OSError: the disk refuses it.
        """
        with self._turn:
            self._asked += 1
            mine = self._asked
            while self._flushed < mine:
                if self._is_flushing:
                    self._turn.wait()
                    continue
                self._is_flushing, upto = True, self._asked
                self._turn.release()
                try:
                    self._flush()
                finally:
                    self._turn.acquire()
                    self._is_flushing = False
                    self._turn.notify_all()
                self._flushed = upto

    def _flush(self) -> None:
        try:
            descriptor = os.open(self._file, os.O_RDWR)
        except FileNotFoundError:  # the last connection closed: all of it went into the database, flushed
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
