"""The one writer of a job: stage results in, rows out, with an in-memory mirror of the trials.

Every writing method is one transaction under the coordinator's fence, so a kill leaves all of it or nothing.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from evaluators.latency import Composition, Correction, composition, fit_correction, predict_latency
from evaluators.protocol import Measurement
from space.architecture import Architecture, parse_architecture

from .clock import Clock
from .evidence import Evidence, interval
from .indicators import indicators
from .pareto import violation
from .plan import JobPlan, static_values
from .records import (
    FINAL_TRIAL_STATES,
    Final,
    JobRecord,
    Origin,
    TrialReason,
    TrialRecord,
    TrialState,
    is_trial_reason,
)
from .storage import events, jobs, trials
from .storage.database import Database

log = logging.getLogger(__name__)

SAVE_TIME_EVERY_S = 10.0

INFEASIBLE = "infeasible"
"""Flag of a trial whose numbers break a constraint."""
UNVALIDATED = "unvalidated_accuracy"
"""Flag of a trial whose quality is that of its fp32 form, not of the number formats it will run in."""


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
        with database.read() as session:
            self.trials = {trial.number: trial for trial in trials.all_trials(session, job.id)}
        for trial in self.trials.values():
            self.know_blocks(self.architecture(trial))
            for rung, steps in enumerate(plan.spec.training.rung_steps()[: trial.rung], start=1):
                if found := self._training_row(trial.training_id, self.search_mark, steps, 0, plan.quality):
                    self._reached(trial.number, rung, found.value)

    # -- reading -----------------------------------------------------------------------------------

    @property
    def search_trials(self) -> list[TrialRecord]:
        return [self.trials[number] for number in sorted(self.trials) if number >= 0]

    @property
    def references(self) -> list[TrialRecord]:
        return [self.trials[number] for number in sorted(self.trials, reverse=True) if number < 0]

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
        with self._db.read() as session:
            return events.last_seq(session, self.job.id)

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
    ) -> TrialRecord:
        """A new trial with its closed-form costs and what else is known (predicted latency)."""
        self._architectures[architecture.id] = architecture
        static = static_values(architecture, self.plan.target)
        with self._db.write() as session:
            trials.create(
                session, self.job.id, self.job.fence, number=number, origin=origin, parents=tuple(parents),
                note=note, asked_after=asked_after, architecture=architecture, now=self._clock.time(),
            )  # fmt: skip
            created = trials.record(
                session, self.job.id, number, self.job.fence, values=static, spread={},
                kinds=dict.fromkeys(static, "computed"), now=self._clock.time(),
            )  # fmt: skip
            return self._mirror(self._record_values(session, created, known) if known else created)

    def take_values(
        self,
        trial: TrialRecord,
        found: Mapping[str, Measurement],
        *,
        rung: int | None = None,
        steps: int | None = None,
    ) -> TrialRecord:
        """Sets a trial's numbers; a measured latency brings its median and 95th percentile along."""
        with self._db.write() as session:
            return self._mirror(self._record_values(session, trial, found, rung=rung, steps=steps))

    def _record_values(
        self,
        session: Session,
        trial: TrialRecord,
        found: Mapping[str, Measurement],
        *,
        rung: int | None = None,
        steps: int | None = None,
    ) -> TrialRecord:
        values = {key: value.value for key, value in found.items() if value.value is not None}
        kinds: dict[str, str] = {key: found[key].kind for key in values}
        spread = {key: limits for key in values if (limits := interval(found[key])) is not None}
        if latency := found.get("latency_s"):
            for key, name in (("latency_p50_s", "p50_s"), ("latency_p95_s", "p95_s")):
                if name in latency.detail:
                    values[key], kinds[key] = float(latency.detail[name]), latency.kind
        passed = {INFEASIBLE, UNVALIDATED} if self.plan.quality in found else {INFEASIBLE}
        flags = (set(trial.flags) - passed).union(*(value.flags for value in found.values()))
        if self._breaks_a_limit({**trial.values, **values}):
            flags.add(INFEASIBLE)
        return trials.record(
            session, self.job.id, trial.number, self.job.fence, values=values, spread=spread, kinds=kinds,
            flags=tuple(sorted(flags)), rung=rung, steps=steps, now=self._clock.time(),
        )  # fmt: skip

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
        with self._db.write() as session:
            self._mirror(
                trials.set_state(
                    session, self.job.id, trial.number, self.job.fence, state, reason=reason, message=message,
                    now=self._clock.time(),
                )
            )  # fmt: skip

    def fail(self, trial: TrialRecord, reason: str, message: str) -> None:
        log.warning("trial failed", extra={"job_id": self.job.id, "trial": trial.number, "reason": reason})
        known: TrialReason = reason if is_trial_reason(reason) else "internal"
        self.set_state(trial, "failed", reason=known, message=message)

    def end_trials(self, state: TrialState) -> None:
        """Gives every trial that has not ended an end."""
        for trial in list(self.trials.values()):
            if trial.state not in FINAL_TRIAL_STATES:
                self.set_state(trial, state)

    def complete(self, trial: TrialRecord) -> None:
        """Counts a trial; its Pareto flag and those it takes away change in the same transaction."""
        before = {number for number, row in self.trials.items() if row.on_front}
        with self._db.write() as session:
            trials.complete(session, self.job.id, trial.number, self.job.fence, now=self._clock.time())
            self.trials = {row.number: row for row in trials.all_trials(session, self.job.id)}
        if trial.number < 0 or before != {number for number, row in self.trials.items() if row.on_front}:
            self.update_indicators()

    def set_final(self, trial: TrialRecord, final: Final) -> None:
        """A finalist's numbers; one of the search that breaks a limit with them leaves the front."""
        with self._db.write() as session:
            row = trials.set_final(session, self.job.id, trial.number, self.job.fence, final)
            if row.number >= 0 and self._breaks_a_limit(row.effective):
                row = trials.record(
                    session, self.job.id, row.number, self.job.fence, values={},
                    flags=(*row.flags, INFEASIBLE), now=self._clock.time(),
                )  # fmt: skip
            self._mirror(row)

    # -- the job -----------------------------------------------------------------------------------

    def restate(self) -> None:
        """The front in the finalists' numbers; the job's stage becomes final."""
        with self._db.write() as session:
            self.job = jobs.set_stage(session, self.job.id, self.job.fence, "final", now=self._clock.time())
            self.trials = {row.number: row for row in trials.all_trials(session, self.job.id)}
        self.update_indicators()

    def count(self, **deltas: int) -> None:
        with self._db.write() as session:
            self.job = jobs.add_counters(session, self.job.id, self.job.fence, **deltas)

    def update_context(self, **patch: Any) -> None:
        with self._db.write() as session:
            self.job = jobs.update_context(session, self.job.id, self.job.fence, patch)

    def update_indicators(self) -> None:
        """Hypervolume, gain, speed-up and suggestions, once every reference has ended."""
        if any(trial.state not in FINAL_TRIAL_STATES for trial in self.references):
            return
        found = indicators(self.search_trials, self.references, self.job.objectives)
        with self._db.write() as session:
            self.job = jobs.set_indicators(
                session, self.job.id, self.job.fence, found, now=self._clock.time()
            )

    def keep_verdicts(self, patch: Mapping[str, Any], changed: Sequence[Mapping[str, Any]]) -> None:
        """Verdicts on proxies in the job's context, and an event for each that changed."""
        with self._db.write() as session:
            self.job = jobs.update_context(session, self.job.id, self.job.fence, patch)
            for one in changed:
                events.append(session, self.job.id, "proxy.verdict", None, one, now=self._clock.time())

    def warn(self, message: str, trial: int | None = None) -> None:
        with self._db.write() as session:
            events.append(
                session, self.job.id, "warning", trial, {"message": message}, now=self._clock.time()
            )

    def _mirror(self, trial: TrialRecord) -> TrialRecord:
        self.trials[trial.number] = trial
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
