"""Background work of `serve` and `worker`: claims queued jobs one after the other, and writes requested
exports."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from space.errors import ConflictError, ServiceError, UnavailableError

from .clock import Clock
from .coordinator import LEASE_S, Coordinator
from .exporting import run_next_export
from .records import FINAL_JOB_STATES, JobRecord
from .running import make_executor, owner_name, stored_plan
from .storage import jobs
from .storage.database import Database

log = logging.getLogger(__name__)

_IDLE_S = 0.5
_BACK_OFF_S = 10.0


class Service:
    """Two threads: one coordinates jobs, one writes exports. `stop` leaves a running job for its
    successor."""

    def __init__(self, database: Database, *, ray: str = "local", workers: int | None = None) -> None:
        self._database = database
        self._ray = ray
        self._workers = workers
        self._clock = Clock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._forever, args=(step,), name=name, daemon=True)
            for name, step in (("coordinator", self._coordinate), ("exporter", self._export))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Asks both threads to end and waits for them; a job in progress goes back to the queue."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=timeout_s)

    def run(self) -> None:
        """Works in the foreground until interrupted (`paretoformer worker`)."""
        self.start()
        try:
            while not self._stop.wait(_IDLE_S):
                pass
        finally:
            self.stop()

    def _forever(self, step: Callable[[], bool]) -> None:
        while not self._stop.is_set():
            try:
                busy = step()
            except Exception:  # the border of a background thread: record, breathe, go on
                log.exception("background step failed")
                self._stop.wait(_BACK_OFF_S)
                continue
            if not busy:
                self._stop.wait(_IDLE_S)

    def _export(self) -> bool:
        return run_next_export(self._database, self._clock)

    def _coordinate(self) -> bool:
        with self._database.write() as session:
            job = jobs.claim(session, owner_name(), LEASE_S, self._clock.time())
        if job is None:
            return False
        try:
            self._run(job)
        except UnavailableError as error:
            log.warning("executor unavailable", extra={"job_id": job.id, "problem": error.message})
            self._release(job, "executor_unavailable", error.message)
            self._stop.wait(_BACK_OFF_S)
        except _LeftError:
            self._release(job)
        except ConflictError as error:
            log.warning(
                "job left to its other coordinator", extra={"job_id": job.id, "problem": error.message}
            )
        except ServiceError as error:
            self._fail(job, error.message)
        except Exception as error:
            log.exception("job failed", extra={"job_id": job.id})
            self._fail(job, f"{type(error).__name__}: {error}")
        return True

    def _run(self, job: JobRecord) -> None:
        plan = stored_plan(job)
        with make_executor(plan, self._database, ray=self._ray, workers=self._workers) as executor:
            Coordinator(self._database, job, plan, executor, on_tick=self._check_stop).run()

    def _check_stop(self, coordinator: Coordinator) -> None:
        """Leaves the job when the service ends, and a paused one when nothing of it runs: others wait."""
        is_resting = coordinator.ledger.job.state == "paused" and coordinator.is_idle
        if self._stop.is_set() or is_resting:
            coordinator.executor.cancel_all()
            raise _LeftError

    def _release(self, job: JobRecord, reason: str | None = None, message: str | None = None) -> None:
        """Back to the queue; a paused job stays paused, one that was cancelled meanwhile is left alone."""
        with suppress(ConflictError), self._database.write() as session:
            jobs.release(
                session, job.id, job.fence, state="queued", reason=reason, message=message,
                now=self._clock.time(),
            )  # fmt: skip

    def _fail(self, job: JobRecord, message: str) -> None:
        with self._database.write() as session:
            current = jobs.get(session, job.id)
            if current.state not in FINAL_JOB_STATES and current.fence == job.fence:
                jobs.set_state(
                    session, job.id, "failed", fence=job.fence, reason="internal", message=message,
                    now=self._clock.time(),
                )  # fmt: skip


class _LeftError(Exception):
    """The job is left for whoever claims it next."""
