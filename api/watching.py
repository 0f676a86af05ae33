"""One look at the database for all event streams of a server: streams sleep until their job has news.

A thread reads the newest sequence number and the state of every job that somebody watches, in one query, and
wakes who waits for less. It exists while there is a stream.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from search.records import FINAL_JOB_STATES
from search.storage import events
from search.storage.database import Database
from space.errors import ServiceError

log = logging.getLogger(__name__)

POLL_S = 0.25


@dataclass(eq=False)
class Seat:
    """One stream's place: what it has sent, and how it is woken."""

    job_id: str
    loop: asyncio.AbstractEventLoop
    seq: int = 0
    awake: asyncio.Event = field(default_factory=asyncio.Event)

    async def rest(self, seq: int, timeout_s: float) -> None:
        """Until the job has an event after `seq`, or the time is over."""
        self.seq = seq
        try:
            await asyncio.wait_for(self.awake.wait(), timeout_s)
        except TimeoutError:
            return
        finally:
            self.awake.clear()

    def wake(self) -> None:
        """From the watching thread."""
        try:
            self.loop.call_soon_threadsafe(self.awake.set)
        except RuntimeError:  # its loop has ended: so has the stream
            return


class Watch:
    """Wakes streams. Safe to use from several event loops."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._seats: set[Seat] = set()
        self._is_running = False
        self._changed = threading.Event()

    @contextmanager
    def seat(self, job_id: str) -> Iterator[Seat]:
        """A place for a stream of the running event loop, as long as it lasts."""
        seat = Seat(job_id, asyncio.get_running_loop())
        with self._lock:
            self._seats.add(seat)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._look, name="event-watch", daemon=True).start()
        try:
            yield seat
        finally:
            with self._lock:
                self._seats.discard(seat)
                self._changed.set()

    def wake_all(self) -> None:
        """Every stream looks for itself: the server ends."""
        with self._lock:
            seats = list(self._seats)
        for seat in seats:
            seat.wake()

    def _look(self) -> None:
        while True:
            with self._lock:
                seats = list(self._seats)
                if not seats:
                    self._is_running = False
                    return
                self._changed.clear()
            self._wake(seats)
            self._changed.wait(POLL_S)

    def _wake(self, seats: list[Seat]) -> None:
        try:
            with self._database.read() as session:
                known = events.heads(session, {seat.job_id for seat in seats})
        except ServiceError as error:  # the database is away: the streams wait with it
            log.warning("events cannot be read", extra={"problem": error.message})
            return
        for seat in seats:
            seq, state = known.get(seat.job_id, (0, "cancelled"))
            if seq > seat.seq or state in FINAL_JOB_STATES:
                seat.wake()
