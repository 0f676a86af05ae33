"""One coordinator per job: it alone asks the strategy, hands out work, writes results and moves the job.

    search stage   references, then proposal -> screen -> rungs -> measured whole -> counted -> front
    final stage    finalists and references of the front, several seeds, restated front

Whatever it needs to go on stands in the database, so a coordinator that dies at any moment is replaced by one
that reads the rows and continues (`architecture.md` 3.5).
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Protocol

from space.errors import ConflictError, UnavailableError

from .clock import Clock, SharedClock
from .final_stage import FinalStage
from .heartbeat import Heartbeat
from .job import TRAINING_FREE
from .ledger import Ledger
from .plan import JobPlan
from .records import JobReason, JobRecord
from .room import Patience, has_room
from .search_stage import SearchStage
from .storage import jobs, trials
from .storage.database import Database
from .tracing import WorkSpans
from .training_free import TrainingFreeStage
from .workers.batches import Batches
from .workers.work import Executor, Outcome, Work

log = logging.getLogger(__name__)

LEASE_S = 15.0
_POLL_S = 0.25
MAX_LOSSES = 3
"""A piece of work whose worker died this often is poison."""
DISK_FULL: Literal["disk_full"] = "disk_full"
"""Reason of an outcome that is no fault of its trial: the job pauses until there is room."""


class LeaseLostError(ConflictError):
    """Another coordinator has the job; this one stops without writing."""


class JobStage(Protocol):
    """A part of a job: gives out work, takes its results, and ends."""

    def next(self) -> Work | None:
        """The next piece of work to start now; None while there is nothing to start."""

    def take(self, work: Work, outcome: Outcome) -> None:
        """A result or a failure of work this stage gave out."""

    def owner(self, key: str) -> int | None:
        """Number of the trial that a piece of work in flight belongs to, where there is one."""

    @property
    def reason(self) -> JobReason | None:
        """Why the stage is over; None while it goes on. Only asked when nothing is in flight."""


class Coordinator:
    """Runs one leased job to its end, or until it is paused, stopped, cancelled or killed."""

    def __init__(
        self,
        database: Database,
        job: JobRecord,
        plan: JobPlan,
        executor: Executor,
        *,
        clock: Clock | None = None,
        lease_s: float = LEASE_S,
        on_tick: Callable[["Coordinator"], None] | None = None,
        beside: bool = False,
    ) -> None:
        """`beside`: a strategy with a model is asked in a process of its own (`search.asking`)."""
        self.clock = clock or SharedClock(database.now)
        self.plan = plan
        strategy = plan.spec.strategy
        batched = strategy.deterministic
        self.executor: Executor = Batches(executor, strategy.batch) if batched else executor
        self._database = database
        self._lease_s = lease_s
        self._on_tick = on_tick
        self._in_flight: dict[str, Work] = {}
        self._retries: list[Work] = []
        self._spans = WorkSpans(job.id)
        self._room = Patience()
        self._alone_since: float | None = None
        """When the last worker went, while there is none."""
        lost = database.storing(
            lambda session: trials.requeue_running(session, job.id, job.fence, now=self.clock.time())
        )
        self.ledger = Ledger(database, job, plan, self.clock)
        stage = TrainingFreeStage if plan.spec.mode == TRAINING_FREE else SearchStage
        self.search: SearchStage = stage(self.ledger, self._in_flight.__contains__, beside=beside)
        self.final = FinalStage(self.ledger, self._in_flight.__contains__)
        if executor.is_in_process:  # then the coordinator died of the work, if it died of anything
            for trial in (trial for trial in lost if trial.attempt >= MAX_LOSSES):
                self.ledger.fail(trial, "poison", f"the process died {trial.attempt} times in it")

    @property
    def stage(self) -> JobStage:
        return self.search if self.ledger.job.context.get("search_ended") is None else self.final

    @property
    def is_idle(self) -> bool:
        """Nothing runs; what was lost may wait for another attempt."""
        return len(self._in_flight) == len(self._retries)

    def run(self) -> JobRecord:
        """Works until the job is in an end state.

        Raises:
            LeaseLostError: another coordinator took the job; nothing was written after that.
            KeyboardInterrupt: after the job was left paused, for `--resume`.
            UnavailableError: the workers or the database went away for good; the lease is still held.
        """
        job = self.ledger.job
        try:
            with Heartbeat(self._database, job, lease_s=self._lease_s, clock=self.clock) as beat:
                self.search.prepare()
                while self._refresh() not in ("completed", "failed", "cancelled"):
                    if beat.lost.is_set():
                        raise LeaseLostError(f"job {job.id} was taken over by another coordinator")
                    self._tick(self.ledger.job.state)
        except KeyboardInterrupt:
            self.executor.cancel_all()
            # it may have ended just now, or there may be no way to write: then its lease runs out
            with suppress(ConflictError, UnavailableError), self._database.write() as session:
                jobs.release(session, job.id, job.fence, state="paused", reason="user", now=self.clock.time())
            raise
        except ConflictError:
            self.executor.cancel_all()
            self.ledger.job = self._database.reading(lambda session: jobs.get(session, job.id))
            if self.ledger.job.state != "cancelled":  # else the user ended it while a result was on its way
                raise
        finally:
            self._spans.end_all()
            self.search.close()
        return self.ledger.job

    def _refresh(self) -> str:
        """Reads what the user asked for since the last tick."""
        job = self._database.reading(lambda session: jobs.get(session, self.ledger.job.id))
        if job.fence != self.ledger.job.fence:
            raise LeaseLostError(f"job {job.id} was taken over by another coordinator")
        self.ledger.job = job
        if job.state == "cancelled":
            self.executor.cancel_all()
            self._in_flight.clear()
            self.ledger.end_trials("cancelled")
        return job.state

    def _tick(self, state: str) -> None:
        self.ledger.count_time(is_working=state != "paused" or not self.is_idle)
        if state == "running":
            self._fill()
        elif state == "stopping":
            for work in self._retries:
                del self._in_flight[work.key]
            self._retries.clear()
        elif state == "paused" and self.ledger.job.reason == DISK_FULL:
            self._look_for_room()
        if not self._in_flight and state != "paused":
            self._advance(state)
        self._look_for_workers()
        for outcome in self.executor.poll(_POLL_S):
            self._take(outcome)
        self.ledger.refresh_indicators()
        if self._on_tick is not None:
            self._on_tick(self)

    def _fill(self) -> None:
        while self.executor.num_busy < self.executor.num_slots:
            work = self._retries.pop() if self._retries else self.stage.next()
            if work is None:
                return
            if self.ledger.losses.get(work.key, 0) >= MAX_LOSSES:  # a trial in another format shares it
                self._in_flight.pop(work.key, None)
                self.stage.take(work, _poison(work))
                continue
            if (number := self.stage.owner(work.key)) is not None:
                self.ledger.start(number)
            self._spans.begin(work, number)
            self._in_flight[work.key] = work
            self.executor.submit(work)

    def _take(self, outcome: Outcome) -> None:
        work = self._in_flight.get(outcome.key)
        if work is None:
            return
        self._spans.end(outcome)
        number = self.stage.owner(work.key)
        if outcome.log and number is not None:
            until = work.payload.get("until")  # rungs of a training share a key
            label = work.key if until is None else f"{work.key}/{until}"
            self.ledger.keep_log(number, label, outcome.log)
        if outcome.lost:
            if self.ledger.lose(work.key, number) < MAX_LOSSES:
                log.warning(
                    "work lost, trying again",
                    extra={"job_id": self.ledger.job.id, "trial": number, "work": work.key},
                )
                self._retries.append(work)  # it stays in flight: nobody else starts it
                return
            outcome = _poison(work)
        elif outcome.reason == DISK_FULL:
            self._retries.append(work)
            self._pause_for_room(outcome.message)
            return
        elif outcome.result is not None:
            self._room.reset()
        del self._in_flight[work.key]
        self.stage.take(work, outcome)

    def _pause_for_room(self, message: str) -> None:
        self._room.start(self.clock.time())
        if self.ledger.job.state == "running":
            log.warning("no room on disk, pausing", extra={"job_id": self.ledger.job.id})
            self.ledger.set_job_state("paused", DISK_FULL, message)

    def _look_for_room(self) -> None:
        if self._room.is_over(self.clock.time()) and has_room(self._database.data_dir):
            self.ledger.set_job_state("running")

    def _look_for_workers(self) -> None:
        """Says in the job's row when nobody is left to work, and since when."""
        if self.executor.has_workers:
            if self.ledger.job.reason == "waiting_for_workers":
                self.ledger.explain(None)
            self._alone_since = None
        elif self._alone_since is None and self.ledger.job.state in ("running", "stopping"):
            self._alone_since = self.clock.time()
            since = self.clock.now().strftime("%Y-%m-%d %H:%M:%S UTC")
            self.ledger.explain("waiting_for_workers", f"no worker since {since}")

    def _advance(self, state: str) -> None:
        """Moves on when a stage is over: to the final stage, or to the end of the job."""
        if state == "stopping":
            if self.stage is self.final:
                self.final.conclude()
            self._finish("user", "stopped by the user")
        elif self.stage is self.search:
            if reason := self.search.reason:
                self.ledger.end_trials("pruned")
                self.ledger.update_context(search_ended=reason, search_message=self.search.message)
        elif self.final.reason:
            context = self.ledger.job.context
            self._finish(context["search_ended"], context.get("search_message"))

    def _finish(self, reason: JobReason, message: str | None) -> None:
        self.ledger.end_trials("pruned")
        self.ledger.update_indicators()
        self.ledger.set_job_state("completed", reason, message)


def _poison(work: Work) -> Outcome:
    return Outcome(work.key, reason="poison", message=f"its worker died {MAX_LOSSES} times")
