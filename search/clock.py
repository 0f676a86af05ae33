"""The one source of time, so that tests can move it."""

import datetime as dt
import time


class Clock:
    """The machine's clock: `time` for leases (seconds since 1970), `now` for what is stored (UTC)."""

    def time(self) -> float:
        return time.time()

    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.time(), dt.UTC)
