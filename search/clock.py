"""The sources of time, so that tests can move them."""

import datetime as dt
import time
from collections.abc import Callable

SYNC_EVERY_S = 30.0


class Clock:
    """The machine's clock: `time` for leases (seconds since 1970), `now` for what is stored (UTC)."""

    def time(self) -> float:
        return time.time()

    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.time(), dt.UTC)


class SharedClock(Clock):
    """The clock of the database, which all coordinators share; between two looks at it this machine's steady
    one, so that a jump of this machine's time of day moves no lease."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._base = now()
        self._looked_at = time.monotonic()

    def time(self) -> float:
        passed = time.monotonic() - self._looked_at
        if passed > SYNC_EVERY_S:
            self._base, self._looked_at, passed = self._now(), time.monotonic(), 0.0
        return self._base + passed
