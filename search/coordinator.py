"""One coordinator per job: it alone asks the strategy, hands out work, writes results and moves the job.

    search stage   references, then proposal -> screen -> rungs -> measured whole -> counted -> front
    final stage    finalists and references of the front, several seeds, restated front

Whatever it needs to go on stands in the database, so a coordinator that dies at any moment is replaced by one
that reads the rows and continues (`architecture.md` 3.5).
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from space.errors import ConflictError

from .clock import Clock
from .final_stage import FinalStage
from .heartbeat import Heartbeat
from .ledger import Ledger
from .plan import JobPlan
from .records import JobRecord
from .search_stage import SearchStage
from .storage import jobs, trials
from .storage.database import Database
from .workers.work import Executor, Outcome, Work

log = logging.getLogger(__name__)

LEASE_S = 15.0
_POLL_S = 0.25
MAX_LOSSES = 3
"""A piece of work whose worker died this often is poison."""


class LeaseLostError(ConflictError):
    """Another coordinator has the job; this one stops without writing."""


class JobStage(Protocol):
    """A part of a job: gives out work, takes its results, and ends."""

    def next(self) -> Work | None:
        """The next piece of work to start now; None while there is nothing to start."""

    def take(self, work: Work, outcome: Outcome) -> None:
        """A result or a failure of work this stage gave out."""

    @property
    def reason(self) -> str | None:
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
    ) -> None:
        self.clock = clock or Clock()
        self.plan = plan
        self.executor = executor
        self._database = database
        self._lease_s = lease_s
        self._on_tick = on_tick
        self._in_flight: dict[str, Work] = {}
        self._losses: dict[str, int] = {}
        self._retries: list[Work] = []
        with database.write() as session:
            trials.requeue_running(session, job.id, job.fence, now=self.clock.time())
        self.ledger = Ledger(database, job, plan, self.clock)
        self.search = SearchStage(self.ledger, self._in_flight.__contains__)
        self.final = FinalStage(self.ledger, self._in_flight.__contains__)

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
            with suppress(ConflictError), self._database.write() as session:  # it may have ended just now
                jobs.release(session, job.id, job.fence, state="paused", reason="user", now=self.clock.time())
            raise
        except ConflictError:
            self.executor.cancel_all()
            with self._database.read() as session:
                self.ledger.job = jobs.get(session, job.id)
            if self.ledger.job.state != "cancelled":  # else the user ended it while a result was on its way
                raise
        return self.ledger.job

    def _refresh(self) -> str:
        """Reads what the user asked for since the last tick."""
        with self._database.read() as session:
            job = jobs.get(session, self.ledger.job.id)
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
        if not self._in_flight and state != "paused":
            self._advance(state)
        for outcome in self.executor.poll(_POLL_S):
            self._take(outcome)
        if self._on_tick is not None:
            self._on_tick(self)

    def _fill(self) -> None:
        while self.executor.num_busy < self.executor.num_slots:
            work = self._retries.pop() if self._retries else self.stage.next()
            if work is None:
                return
            self._in_flight[work.key] = work
            self.executor.submit(work)

    def _take(self, outcome: Outcome) -> None:
        work = self._in_flight.get(outcome.key)
        if work is None:
            return
        if outcome.lost:
            self._losses[work.key] = self._losses.get(work.key, 0) + 1
            if self._losses[work.key] < MAX_LOSSES:
                log.warning("work lost, trying again", extra={"job_id": self.ledger.job.id, "work": work.key})
                self._retries.append(work)  # it stays in flight: nobody else starts it
                return
            outcome = Outcome(work.key, reason="poison", message=f"its worker died {MAX_LOSSES} times")
        del self._in_flight[work.key]
        self.stage.take(work, outcome)

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
            self._finish(str(context["search_ended"]), context.get("search_message"))

    def _finish(self, reason: str, message: str | None) -> None:
        self.ledger.end_trials("pruned")
        self.ledger.update_indicators()
        with self._database.write() as session:
            self.ledger.job = jobs.set_state(
                session, self.ledger.job.id, "completed", fence=self.ledger.job.fence, reason=reason,
                message=message, now=self.clock.time(),
            )  # fmt: skip
