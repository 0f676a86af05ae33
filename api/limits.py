"""How much one caller may ask: requests per second, open streams, wrong keys. In this process's memory.

    tokens(t) = min(burst, tokens(t0) + rate (t - t0))        a request takes one token
    wait after the k-th wrong key from `FREE` on = min(2^(k - FREE), `LONGEST_S`) seconds

The memory is bounded: of too many names, those that were used least recently are forgotten.
"""

import math
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .problems import RequestError

BURST_S = 4.0
"""A caller that was quiet may ask as much at once as it may in so many seconds."""
FREE = 5
LONGEST_S = 300.0
MAX_NAMES = 10_000


def too_many(detail: str, wait_s: float) -> RequestError:
    """The refusal of a caller that has to wait."""
    return RequestError(429, "too_many_requests", detail, headers=_after(wait_s))


def _after(wait_s: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(wait_s)))}


class Rate:
    """A token bucket per caller; a rate of 0 sets no limit."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """
        Raises:
            RequestError: 429 with Retry-After.
        """
        if not self._rate:
            return
        burst, now = max(1.0, self._rate * BURST_S), self._clock()
        with self._lock:
            tokens, since = self._buckets.pop(caller, (burst, now))
            tokens = min(burst, tokens + self._rate * (now - since))
            is_allowed = tokens >= 1.0
            self._buckets[caller] = (tokens - is_allowed, now)
            while len(self._buckets) > MAX_NAMES:
                self._buckets.popitem(last=False)
        if not is_allowed:
            raise too_many(
                f"more than {self._rate:g} requests per second; wait a moment", (1.0 - tokens) / self._rate
            )


class Attempts:
    """Wrong keys, counted by source and by the key they name; each is let in again after its wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def check(self, *names: str) -> None:
        """
        Raises:
            RequestError: 429: one of the names has failed too often lately.
        """
        now = self._clock()
        with self._lock:
            ends = max((self._failures.get(name, (0, 0.0))[1] for name in names), default=0.0)
        if ends > now:
            raise RequestError(
                429, "too_many_attempts", "too many wrong keys; wait", headers=_after(ends - now)
            )

    def failed(self, *names: str) -> None:
        """Counts a wrong key."""
        now = self._clock()
        with self._lock:
            for name in names:
                count, ends = self._failures.pop(name, (0, 0.0))
                if now > ends + LONGEST_S:
                    count = 0
                wait = min(2.0 ** (count - FREE), LONGEST_S) if count >= FREE else 0.0
                self._failures[name] = (count + 1, now + wait)
            while len(self._failures) > MAX_NAMES:
                self._failures.popitem(last=False)

    def succeeded(self, *names: str) -> None:
        """A right key clears what stood against the names."""
        with self._lock:
            for name in names:
                self._failures.pop(name, None)


class Streams:
    """Open event streams per caller."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def check(self, caller: str) -> None:
        """
        Raises:
            RequestError: 429: the caller has as many as it may.
        """
        with self._lock:
            if self._open[caller] >= self._limit:
                raise too_many(f"{self._limit} event streams are open; close one", 5.0)

    @contextmanager
    def opened(self, caller: str) -> Iterator[None]:
        """Counts a stream while it is open."""
        with self._lock:
            self._open[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[caller] -= 1
                if self._open[caller] <= 0:
                    del self._open[caller]

    @property
    def total(self) -> int:
        """Streams of everybody."""
        with self._lock:
            return sum(self._open.values())
