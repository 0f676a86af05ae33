"""Keeps a coordinator's lease alive from a thread of its own, and notices when it is lost."""

import logging
import threading
from types import TracebackType
from typing import Self

from space.errors import ConflictError

from .clock import Clock
from .records import JobRecord
from .storage import jobs
from .storage.database import Database

log = logging.getLogger(__name__)


class Heartbeat:
    """Beats three times per lease. `lost` is set when another coordinator has taken the job."""

    def __init__(self, database: Database, job: JobRecord, *, lease_s: float, clock: Clock) -> None:
        self.lost = threading.Event()
        self._database = database
        self._job = job
        self._lease_s = lease_s
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{job.id[:8]}", daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(self._lease_s / 3):
            try:
                with self._database.write() as session:
                    jobs.beat(session, self._job.id, self._job.fence, self._lease_s, self._clock.time())
            except ConflictError:
                log.warning("lease lost", extra={"job_id": self._job.id})
                self.lost.set()
                return
            except (
                Exception
            ):  # the next beat may reach the database again; the lease decides, not this thread
                log.exception("beat failed", extra={"job_id": self._job.id})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
