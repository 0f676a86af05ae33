"""Background work of `serve` and `worker`: coordinates queued jobs, several at a time, and writes requested
exports.

    claims jobs, fewest running per tenant first -> one thread per job -> workers shared fairly between them

A job whose executor cannot be reached goes back to the queue and is tried again, ever more rarely, until its
time is up. A job that found the disk full goes on when there is room.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from space.errors import ConflictError, ServiceError, UnavailableError

from .clock import Clock, SharedClock
from .coordinator import DISK_FULL, LEASE_S, Coordinator
from .crew import Crew
from .exporting import run_next_export
from .heartbeat import Heartbeat
from .housekeeping import tidy
from .records import FINAL_JOB_STATES, JobReason, JobRecord
from .room import has_room
from .running import owner_name, stored_plan
from .storage import jobs
from .storage.database import Database, DiskFullError
from .workers.store import store_of

log = logging.getLogger(__name__)

MAX_JOBS = 4
"""Jobs coordinated at once; a tenant that has none running may have one more."""
GIVE_UP_S = 6 * 3600.0
"""How long a job waits for an executor before it fails."""
UNAVAILABLE_SINCE = "unavailable_since"
"""Key of a job's context: Unix seconds since when its executor could not be reached."""
_IDLE_S = 0.5
_FIRST_BACK_OFF_S, _LONGEST_BACK_OFF_S = 1.0, 60.0
_TIDY_EVERY_S = 60.0


class Service:
    """Threads: one claims jobs, one coordinates each of them, one writes exports, one keeps house. `stop`
    leaves running jobs for their successors."""

    def __init__(
        self,
        database: Database,
        *,
        ray: str = "local",
        workers: int | None = None,
        memory: int | None = None,
        max_jobs: int = MAX_JOBS,
        give_up_s: float = GIVE_UP_S,
        clock: Clock | None = None,
    ) -> None:
        self._database = database
        self._clock = clock or SharedClock(database.now)
        self._crew = Crew(database, ray=ray, workers=workers, memory=memory)
        self._max_jobs = max_jobs
        self._give_up_s = give_up_s
        self._stop = threading.Event()
        self._running: dict[str, tuple[JobRecord, threading.Thread]] = {}
        self._back_off_s = _FIRST_BACK_OFF_S
        self._not_before = 0.0
        """Monotonic seconds before which no job is claimed: the executor was away."""
        steps: tuple[tuple[str, Callable[[], bool], float], ...] = (
            ("coordinator", self._claim, _IDLE_S),
            ("exporter", self._export, _IDLE_S),
            ("housekeeper", self._tidy, _TIDY_EVERY_S),
        )
        self._threads = [
            threading.Thread(target=self._forever, args=(step, idle_s), name=name, daemon=True)
            for name, step, idle_s in steps
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Asks all threads to end and waits for them; jobs in progress go back to the queue."""
        self._stop.set()
        end = time.monotonic() + timeout_s
        for thread in (*self._threads, *(thread for _, thread in list(self._running.values()))):
            thread.join(timeout=max(0.1, end - time.monotonic()))
        self._crew.close()

    def run(self) -> None:
        """Works in the foreground until interrupted (`paretoformer worker`)."""
        self.start()
        try:
            while not self._stop.wait(_IDLE_S):
                pass
        finally:
            self.stop()

    def _forever(self, step: Callable[[], bool], idle_s: float) -> None:
        while not self._stop.is_set():
            try:
                busy = step()
            except UnavailableError as error:
                log.warning("database away", extra={"problem": error.message})
                self._stop.wait(_FIRST_BACK_OFF_S)
                continue
            except Exception:  # the border of a background thread: record, breathe, go on
                log.exception("background step failed")
                self._stop.wait(10 * _FIRST_BACK_OFF_S)
                continue
            if not busy:
                self._stop.wait(idle_s)

    def _export(self) -> bool:
        return run_next_export(self._database, self._clock)

    def _tidy(self) -> bool:
        tidy(self._database, self._clock)
        return False

    # -- jobs --------------------------------------------------------------------------------------

    def _claim(self) -> bool:
        """Takes one more job, if there is a place for it."""
        self._running = {key: one for key, one in self._running.items() if one[1].is_alive()}
        if time.monotonic() < self._not_before:
            return False
        job = self._next_job()
        if job is None:
            return False
        thread = threading.Thread(target=self._coordinate, args=(job,), name=f"job-{job.id[:8]}", daemon=True)
        self._running[job.id] = job, thread
        thread.start()
        return True

    def _next_job(self) -> JobRecord | None:
        held: dict[str, int] = {}
        for job, _ in self._running.values():
            held[job.tenant] = held.get(job.tenant, 0) + 1
        is_full = len(self._running) >= self._max_jobs
        with self._database.write() as session:
            if has_room(self._database.data_dir):
                jobs.wake(session, DISK_FULL, self._clock.time())
            return jobs.claim(
                session, owner_name(), LEASE_S, self._clock.time(),
                held=held, new_tenants_only=is_full, besides=self._running.keys(),
            )  # fmt: skip

    def _coordinate(self, job: JobRecord) -> None:
        try:
            self._run(job)
        except DiskFullError as error:
            log.warning("no room for the database", extra={"job_id": job.id, "problem": error.message})
            self._pause_until_room(job, error.message)
        except UnavailableError as error:
            log.warning("executor unavailable", extra={"job_id": job.id, "problem": error.message})
            self._return_or_give_up(job, error.message)
        except _LeftError:
            log.info("job left for a successor", extra={"job_id": job.id})
            self._release(job)
        except ConflictError as error:
            log.warning(
                "job left to its other coordinator", extra={"job_id": job.id, "problem": error.message}
            )
        except ServiceError as error:
            self._fail(job, "internal", error.message)
        except Exception as error:
            log.exception("job failed", extra={"job_id": job.id})
            self._fail(job, "internal", f"{type(error).__name__}: {error}")

    def _run(self, job: JobRecord) -> None:
        """Beats from the first moment: reading the data and starting workers may take longer than a lease."""
        log.info("job begun", extra={"job_id": job.id, "tenant": job.tenant, "fence": job.fence})
        with Heartbeat(self._database, job, lease_s=LEASE_S, clock=self._clock):
            self._run_leased(job)

    def _run_leased(self, job: JobRecord) -> None:
        try:
            plan = stored_plan(job, store_of(self._database))
        except ConflictError as error:  # of its data, not of its lease: the next coordinator finds the same
            self._fail(job, "internal", error.message)
            return
        with self._crew.executor(plan, job) as executor:
            coordinator = Coordinator(
                self._database, job, plan, executor,
                on_tick=self._check_stop, beside=not executor.is_in_process,
            )  # fmt: skip
            if job.context.get(UNAVAILABLE_SINCE) is not None:
                coordinator.ledger.update_context(**{UNAVAILABLE_SINCE: None})
            self._back_off_s = _FIRST_BACK_OFF_S
            ended = coordinator.run()
        log.info("job ended", extra={"job_id": job.id, "state": ended.state, "reason": ended.reason})

    def _check_stop(self, coordinator: Coordinator) -> None:
        """Leaves the job when the service ends, and a paused one when nothing of it runs: others wait."""
        is_resting = coordinator.ledger.job.state == "paused" and coordinator.is_idle
        if self._stop.is_set() or is_resting:
            coordinator.executor.cancel_all()
            raise _LeftError

    # -- ways back ---------------------------------------------------------------------------------

    def _release(self, job: JobRecord, reason: JobReason | None = None, message: str | None = None) -> None:
        """Back to the queue; a paused job stays paused, one that was cancelled meanwhile is left alone."""
        with suppress(ConflictError):
            self._database.storing(
                lambda session: jobs.release(
                    session, job.id, job.fence, state="queued", reason=reason, message=message,
                    now=self._clock.time(),
                )
            )  # fmt: skip

    def _return_or_give_up(self, job: JobRecord, message: str) -> None:
        now = self._clock.time()
        since = float(job.context.get(UNAVAILABLE_SINCE) or now)
        if now - since >= self._give_up_s:
            waited = f"{message}; given up after {(now - since) / 3600:.1f} hours"
            self._fail(job, "executor_unavailable", waited)
            return
        with suppress(ConflictError):
            self._database.storing(
                lambda session: jobs.update_context(session, job.id, job.fence, {UNAVAILABLE_SINCE: since})
            )
        self._release(job, "executor_unavailable", message)
        self._not_before = time.monotonic() + self._back_off_s
        self._back_off_s = min(2 * self._back_off_s, _LONGEST_BACK_OFF_S)

    def _pause_until_room(self, job: JobRecord, message: str) -> None:
        """Tries to say so in the row; a database that cannot even store that keeps the job until its lease
        runs out, and then it is claimed again."""
        for _ in range(int(LEASE_S)):
            try:
                with self._database.write() as session:
                    jobs.release(
                        session, job.id, job.fence, state="paused", reason=DISK_FULL, message=message,
                        now=self._clock.time(),
                    )  # fmt: skip
            except UnavailableError:
                if self._stop.wait(1.0):
                    return
            except ConflictError:
                return
            else:
                return

    def _fail(self, job: JobRecord, reason: JobReason, message: str) -> None:
        with suppress(ConflictError), self._database.write() as session:
            current = jobs.get(session, job.id)
            if current.state not in FINAL_JOB_STATES and current.fence == job.fence:
                jobs.set_state(
                    session, job.id, "failed", fence=job.fence, reason=reason, message=message,
                    now=self._clock.time(),
                )  # fmt: skip


class _LeftError(Exception):
    """The job is left for whoever claims it next."""
