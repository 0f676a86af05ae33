"""The one writer of a job: stage results in, rows out, with an in-memory mirror of the trials.

Every writing method is one transaction under the coordinator's fence, so a kill leaves all of it or nothing.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from evaluators.latency import Composition, Correction, composition, fit_correction, predict_latency
from evaluators.protocol import Measurement
from space.architecture import Architecture, parse_architecture

from .cascade import Filter, cascade
from .clock import Clock
from .evidence import Evidence, interval
from .indicators import indicators
from .objectives import PROXY_SCORE
from .pareto import violation
from .plan import JobPlan, static_values
from .records import (
    FINAL_TRIAL_STATES,
    Final,
    JobReason,
    JobRecord,
    JobState,
    Origin,
    TrialReason,
    TrialRecord,
    TrialState,
    is_trial_reason,
)
from .storage import events, jobs, logs, trials
from .storage.database import Database
from .storage.trials import Numbers
from .too_large import Sizes, sizes_of
from .workers.work import LogLine

log = logging.getLogger(__name__)

T = TypeVar("T")
SAVE_TIME_EVERY_S = 10.0
LOSSES = "losses"
"""Key of a job's context: workers that died, by piece of work."""

INFEASIBLE = "infeasible"
"""Flag of a trial whose numbers break a constraint."""
UNVALIDATED = "unvalidated_accuracy"
"""Flag of a trial whose quality is that of its fp32 form, not of the number formats it will run in."""

CHEAP_S = 0.05
"""Indicators that take less CPU time are restated with every change of the front."""
IDLE_SHARE = 0.95
"""Of the time in which dearer ones are not computed."""


class Ledger(Evidence):
    """Rows of one job, as its coordinator sees and writes them."""

    def __init__(self, database: Database, job: JobRecord, plan: JobPlan, clock: Clock) -> None:
        super().__init__(database, job, plan, clock)
        self._began = clock.time()
        self._architectures: dict[str, Architecture] = {}
        self._composed: dict[str, Composition] = {}
        self._earlier_pairs = self.earlier_pairs()
        self.rung_quality: dict[tuple[int, int], float] = {}
        """Quality at (trial number, rung)."""
        self.trials: dict[int, TrialRecord] = {}
        self.changed: set[int] = set()
        """Numbers of the trials that changed since `search.history` looked."""
        self.front_numbers: set[int] = set()
        """Trials of the search front."""
        self.too_large: dict[int, Sizes] = {}
        """Trial number -> sizes, of those that ran out of memory."""
        self._stale = bool(job.indicators)
        """Whether the front has moved since the indicators were stated; nobody knows where another
        coordinator was stopped."""
        self._next_indicators = 0.0
        """On the monotonic clock: stale ones are not restated before."""
        self._waiting: set[int] = set()
        self._open: set[int] = set()
        self.num_search = 0
        """Trials of the search; the number of the next one."""
        self._load(database.reading(lambda session: trials.all_trials(session, job.id)))
        self._load_rungs()

    def _load(self, rows: Sequence[TrialRecord]) -> None:
        for row in rows:
            self._mirror(row)

    def _load_rungs(self) -> None:
        """Quality of every trial at the rungs it has passed, a few questions for all of them."""
        for rung, steps in enumerate(self.plan.spec.training.rung_steps(), start=1):
            passed = [trial for trial in self.trials.values() if trial.rung >= rung]
            found = self.training_values([trial.training_id for trial in passed], steps)
            for trial in passed:
                if trial.training_id in found:
                    self._reached(trial.number, rung, found[trial.training_id])

    # -- reading -----------------------------------------------------------------------------------

    @property
    def search_trials(self) -> list[TrialRecord]:
        return [self.trials[number] for number in sorted(self.trials) if number >= 0]

    @property
    def references(self) -> list[TrialRecord]:
        return [self.trials[number] for number in sorted(self.trials, reverse=True) if number < 0]

    def waiting_trials(self) -> list[TrialRecord]:
        return [self.trials[number] for number in sorted(self._waiting)]

    def open_search_trials(self) -> list[TrialRecord]:
        """Trials of the search that have not ended."""
        return [self.trials[number] for number in sorted(self._open) if number >= 0]

    def architecture(self, trial: TrialRecord) -> Architecture:
        if trial.architecture_id not in self._architectures:
            self._architectures[trial.architecture_id] = parse_architecture(trial.architecture)
        return self._architectures[trial.architecture_id]

    def elapsed_s(self) -> float:
        """Seconds coordinators have worked on the job; pauses and downtime do not count."""
        return float(self.job.context.get("active_s", 0.0)) + self._clock.time() - self._began

    def count_time(self, *, is_working: bool) -> None:
        """Called now and then: keeps the time worked for a successor; a kill loses the last few seconds."""
        if not is_working:
            self._began = self._clock.time()
        elif self._clock.time() - self._began > SAVE_TIME_EVERY_S:
            elapsed, self._began = self.elapsed_s(), self._clock.time()
            self.update_context(active_s=elapsed)

    def last_event(self) -> int:
        return self._db.reading(lambda session: events.last_seq(session, self.job.id))

    def predict(self, architectures: Sequence[Architecture]) -> list[Measurement]:
        """Latencies composed from measured blocks, corrected by the whole models measured so far.

        Every block must be known. The correction is fitted anew from what is stored, so that a coordinator
        that has just started predicts what its predecessor would have.
        """
        correction = self._correction()
        return [predict_latency(one, self.plan.target, self.blocks, correction) for one in architectures]

    # -- trials ------------------------------------------------------------------------------------

    def create_trial(
        self,
        number: int,
        architecture: Architecture,
        *,
        origin: Origin,
        parents: Sequence[int] = (),
        note: str = "",
        asked_after: int,
        known: Mapping[str, Measurement],
        flags: Sequence[str] = (),
        asked: Mapping[str, Any] | None = None,
    ) -> TrialRecord:
        """A new trial with its closed-form costs and what else is known (predicted latency)."""
        self._architectures[architecture.id] = architecture
        static = static_values(architecture, self.plan.target)

        numbers = Numbers(values=static, kinds=dict.fromkeys(static, "computed"), flags=flags)
        if known:
            more = self._numbers(static, flags, known)
            numbers = replace(
                more, values={**static, **more.values}, kinds={**(numbers.kinds or {}), **(more.kinds or {})}
            )
        return self._mirror(
            self._write(
                lambda session: trials.create(
                    session, self.job.id, self.job.fence, number=number, origin=origin, note=note,
                    parents=tuple(parents), asked_after=asked_after, architecture=architecture, asked=asked,
                    known=numbers, now=self._clock.time(),
                )
            )
        )  # fmt: skip

    def take_values(
        self,
        trial: TrialRecord,
        found: Mapping[str, Measurement],
        *,
        rung: int | None = None,
        steps: int | None = None,
    ) -> TrialRecord:
        """Sets a trial's numbers; a measured latency brings its median and 95th percentile along."""
        new = self._numbers(trial.values, trial.flags, found, rung=rung, steps=steps)
        return self._mirror(
            self._write(
                lambda session: trials.record(
                    session, self.job.id, trial.number, self.job.fence, values=new.values, spread=new.spread,
                    kinds=new.kinds, flags=new.flags, rung=rung, steps=steps, now=self._clock.time(),
                )
            )
        )  # fmt: skip

    def _numbers(
        self,
        had: Mapping[str, float],
        flags: Sequence[str],
        found: Mapping[str, Measurement],
        *,
        rung: int | None = None,
        steps: int | None = None,
    ) -> Numbers:
        values = {key: value.value for key, value in found.items() if value.value is not None}
        kinds: dict[str, str] = {key: found[key].kind for key in values}
        spread = {key: limits for key in values if (limits := interval(found[key])) is not None}
        if latency := found.get("latency_s"):
            for key, name in (("latency_p50_s", "p50_s"), ("latency_p95_s", "p95_s")):
                if name in latency.detail:
                    values[key], kinds[key] = float(latency.detail[name]), latency.kind
        passed = {INFEASIBLE, UNVALIDATED} if self.plan.quality in found else {INFEASIBLE}
        marks = (set(flags) - passed).union(*(value.flags for value in found.values()))
        if self._breaks_a_limit({**had, **values}):
            marks.add(INFEASIBLE)
        return Numbers(values=values, spread=spread, kinds=kinds, flags=sorted(marks), rung=rung, steps=steps)

    def _breaks_a_limit(self, values: Mapping[str, float]) -> bool:
        """By the numbers of now: a prediction, or the quality of a first rung, may be over a limit that the
        measured trial keeps."""
        return violation(values, self.plan.measured_limits) > 0

    def reach(self, trial: TrialRecord, metrics: Mapping[str, Measurement], *, rung: int, steps: int) -> None:
        """A trial has its metrics at a rung and waits for what comes next.

        They are those of the fp32 form: a trial in another number format says so until it is measured itself.
        """
        if trial.training_id != trial.architecture_id:
            metrics = {
                key: replace(found, flags=found.flags | {UNVALIDATED}) for key, found in metrics.items()
            }
        self.take_values(trial, metrics, rung=rung, steps=steps)
        self._reached(trial.number, rung, metrics[self.plan.quality].value)
        self.set_state(self.trials[trial.number], "waiting")

    def _reached(self, number: int, rung: int, quality: float | None) -> None:
        """A rung without a finite quality is a failed training, which never gets here."""
        assert quality is not None
        self.rung_quality[number, rung] = quality

    def step_back(self, trial: TrialRecord, rung: int) -> None:
        """A lost checkpoint: the trial trains again from an earlier rung."""
        self.rung_quality = {
            key: value for key, value in self.rung_quality.items() if key != (trial.number, trial.rung)
        }
        self.take_values(trial, {}, rung=rung)

    def set_state(
        self,
        trial: TrialRecord,
        state: TrialState,
        *,
        reason: TrialReason | None = None,
        message: str | None = None,
    ) -> None:
        if trial.state == state:
            return
        self._mirror(
            self._write(
                lambda session: trials.set_state(
                    session, self.job.id, trial.number, self.job.fence, state, reason=reason, message=message,
                    now=self._clock.time(),
                )
            )
        )  # fmt: skip

    def start(self, number: int) -> None:
        """A worker has the trial; one that is counted already, a finalist, stays as it is."""
        if self.trials[number].state == "waiting":
            self.set_state(self.trials[number], "running")

    def keep_log(self, number: int, work: str, lines: Sequence[LogLine]) -> None:
        """What a worker logged about a trial."""
        attempt, plain = self.trials[number].attempt, [asdict(line) for line in lines]
        self._write(
            lambda session: logs.put(
                session, self.job.id, number, work, attempt, plain, now=self._clock.time()
            )
        )

    def lose(self, key: str, number: int | None) -> int:
        """A worker died with this piece of work: how often that has happened to it, coordinators before this
        one included. Its trial waits again with one more attempt."""
        losses = {**self.losses, key: self.losses.get(key, 0) + 1}
        is_running = number is not None and self.trials[number].state == "running"

        def store(session: Session) -> TrialRecord | None:
            self.job = jobs.update_context(session, self.job.id, self.job.fence, {LOSSES: losses})
            if not is_running or number is None:
                return None
            return trials.requeue(session, self.job.id, number, self.job.fence, now=self._clock.time())

        if (row := self._write(store)) is not None:
            self._mirror(row)
        return int(losses[key])

    @property
    def losses(self) -> Mapping[str, int]:
        """Key of a piece of work -> workers that died with it."""
        found: Mapping[str, int] = self.job.context.get(LOSSES, {})
        return found

    def fail(self, trial: TrialRecord, reason: str, message: str) -> None:
        log.warning("trial failed", extra={"job_id": self.job.id, "trial": trial.number, "reason": reason})
        known: TrialReason = reason if is_trial_reason(reason) else "internal"
        self.set_state(trial, "failed", reason=known, message=message)

    def end_trials(self, state: TrialState) -> None:
        """Gives every trial that has not ended an end."""
        for trial in list(self.trials.values()):
            if trial.state not in FINAL_TRIAL_STATES:
                self.set_state(trial, state)

    def complete(
        self, trial: TrialRecord, found: Mapping[str, Measurement] | None = None, *, rung: int | None = None
    ) -> None:
        """Counts a trial with what was found last: its Pareto flag and those it takes away change in the same
        transaction."""
        new = None if found is None else self._numbers(trial.values, trial.flags, found, rung=rung)
        rows = self._write(
            lambda session: trials.count_trial(
                session, self.job.id, trial.number, self.job.fence, new, now=self._clock.time()
            )
        )
        moved = [row for row in rows if row.on_front != self.trials[row.number].on_front]
        self._load(rows)
        if trial.number < 0 or moved:
            self._stale = True
            self.refresh_indicators()

    def set_final(self, trial: TrialRecord, final: Final) -> None:
        """A finalist's numbers; one of the search that breaks a limit with them leaves the front."""

        def store(session: Session) -> TrialRecord:
            row = trials.set_final(session, self.job.id, trial.number, self.job.fence, final)
            if row.number >= 0 and self._breaks_a_limit(row.effective):
                row = trials.record(
                    session, self.job.id, row.number, self.job.fence, values={},
                    flags=(*row.flags, INFEASIBLE), now=self._clock.time(),
                )  # fmt: skip
            return row

        self._mirror(self._write(store))

    # -- the job -----------------------------------------------------------------------------------

    def restate(self) -> None:
        """The front in the finalists' numbers; the job's stage becomes final."""

        def store(session: Session) -> list[TrialRecord]:
            self.job = jobs.set_stage(session, self.job.id, self.job.fence, "final", now=self._clock.time())
            return trials.all_trials(session, self.job.id)

        self._load(self._write(store))
        self.update_indicators()

    def count(self, **deltas: int) -> None:
        """Stores sums, not differences: a write that is repeated counts once."""
        if any(deltas.values()):
            sums = {key: self.job.counters.get(key, 0) + delta for key, delta in deltas.items()}
            self._write_job(lambda session: jobs.set_counters(session, self.job.id, self.job.fence, **sums))

    def update_context(self, **patch: Any) -> None:
        self._write_job(lambda session: jobs.update_context(session, self.job.id, self.job.fence, patch))

    def explain(self, reason: JobReason | None, message: str | None = None) -> None:
        """Why the job is in its state; None when there is nothing to say any more."""
        self.set_job_state(self.job.state, reason, message)

    def set_job_state(
        self, state: JobState, reason: JobReason | None = None, message: str | None = None
    ) -> None:
        self._write_job(
            lambda session: jobs.set_state(
                session, self.job.id, state, fence=self.job.fence, reason=reason, message=message,
                now=self._clock.time(),
            )
        )  # fmt: skip

    def refresh_indicators(self) -> None:
        """Restates them if they are stale. They cost as much as there are trials: those of a large job wait
        until `IDLE_SHARE` of the time has gone to other things, and the cost of a trial stays flat."""
        if self._stale and time.monotonic() >= self._next_indicators:
            self.update_indicators()

    def update_indicators(self) -> None:
        """Hypervolume, gain, speed-up and suggestions, once every reference has ended."""
        began = time.thread_time()
        self._stale = False
        self._state_indicators()
        spent = time.thread_time() - began
        rest = spent * IDLE_SHARE / (1 - IDLE_SHARE) if spent > CHEAP_S else 0.0
        self._next_indicators = time.monotonic() + rest

    def _state_indicators(self) -> None:
        if any(trial.state not in FINAL_TRIAL_STATES for trial in self.references):
            return
        found = indicators(self.search_trials, self.references, self.job.objectives)
        found["cascade"] = [one.described() for one in self._cascade()]
        if self.plan.quality == PROXY_SCORE:  # a proxy's equal is not equal quality
            found |= {"speedup_at_equal_quality": None, UNVALIDATED: True}
        self._write_job(
            lambda session: jobs.set_indicators(
                session, self.job.id, self.job.fence, found, now=self._clock.time()
            )
        )

    def _cascade(self) -> list[Filter]:
        training = self.plan.spec.training
        return cascade(
            self.search_trials, self.rung_quality, self.job.counters, objectives=self.job.objectives,
            rungs=training.rung_steps(), reduction=training.reduction,
        )  # fmt: skip

    def keep_verdicts(self, patch: Mapping[str, Any], changed: Sequence[Mapping[str, Any]]) -> None:
        """Verdicts on proxies in the job's context, and an event for each that changed."""

        def store(session: Session) -> JobRecord:
            job = jobs.get(session, self.job.id)
            if any(job.context.get(key) != value for key, value in patch.items()):  # else it is stored
                job = jobs.update_context(session, self.job.id, self.job.fence, patch)
                for one in changed:
                    events.append(session, self.job.id, "proxy.verdict", None, one, now=self._clock.time())
            return job

        self._write_job(store)

    def warn(self, message: str, trial: int | None = None) -> None:
        self._write(
            lambda session: events.append_once(
                session, self.job.id, "warning", trial, {"message": message}, now=self._clock.time()
            )
        )

    def _write(self, store: Callable[[Session], T]) -> T:
        """Repeated while the database is busy or away; what it does may therefore be repeated."""
        return self._db.storing(store)

    def _write_job(self, store: Callable[[Session], JobRecord]) -> None:
        self.job = self._write(store)

    def _mirror(self, trial: TrialRecord) -> TrialRecord:
        number = trial.number
        if number >= 0 and number not in self.trials:
            self.num_search += 1
        self.trials[number] = trial
        self.changed.add(number)
        if trial.reason == "out_of_memory":
            self.too_large[number] = sizes_of(static_values(self.architecture(trial), self.plan.target))
        for numbers, is_member in (
            (self._waiting, trial.state == "waiting"),
            (self._open, trial.state not in FINAL_TRIAL_STATES),
            (self.front_numbers, trial.on_front and number >= 0),
        ):
            (numbers.add if is_member else numbers.discard)(number)
        return trial

    def _correction(self) -> Correction:
        """From this job's whole measurements, and those of earlier jobs on the same target."""
        own = {
            trial.architecture_id: composed.pair(trial.values["latency_s"])
            for trial in self.trials.values()
            if trial.kinds.get("latency_s") == "measured"
            and (composed := self._composition(trial)) is not None
        }
        return fit_correction([*(self._earlier_pairs | own).values()])

    def _composition(self, trial: TrialRecord) -> Composition | None:
        """A trial's blocks, None while one of them was never measured."""
        if trial.architecture_id not in self._composed:
            architecture = self.architecture(trial)
            if self.know_blocks(architecture):
                return None
            self._composed[trial.architecture_id] = composition(architecture, self.plan.target, self.blocks)
        return self._composed[trial.architecture_id]
