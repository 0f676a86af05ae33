"""The search of a job without training: proxies stand for quality, latency is predicted, the front measured.

    sample of the space -> its proxies -> standing S of every architecture (`evaluators.standing`)
    references and the first trials are measured whole -> what latency is predicted from (`fitted_latency`)
    proposal -> (-S, predicted latency, ...) -> told at once
    at the end: what is on the front by these numbers is measured whole, until all of it is or `MOST_MEASURED`

Thousands of architectures a minute, and nothing learned about a single one of them: every trial carries the
flag `unvalidated_accuracy`, no speed-up at equal quality is stated, and nothing is retrained. On public
tables the best proxies rank architectures with tau 0.6 to 0.9, and at equal size hardly better than chance.

Source: Javaheripi et al. 2022, arXiv:2203.02094 (LiteTransformerSearch); evaluators_and_search.md 12.14, 5.1.
"""

from collections.abc import Callable, Mapping
from typing import Any

from evaluators.latency import blocks_of
from evaluators.protocol import Measurement

from .ledger import Ledger
from .objectives import PROXY_SCORE, comparable, minimised
from .pareto import farthest_order, front, log_scaled, violation
from .records import FINAL_TRIAL_STATES, JobReason, TrialRecord
from .search_stage import SearchStage
from .workers.stages import unpack
from .workers.work import Outcome, Work

MOST_MEASURED = 24
"""Whole models of the search that are measured."""
GIVEN = ("enqueued", "earlier", "start")
MEASURED_FIRST = 8
"""Of the trials that no strategy proposed, so many are measured at once: predictions learn from them."""


class TrainingFreeStage(SearchStage):
    """As `SearchStage`, without its rungs."""

    def __init__(self, ledger: Ledger, in_flight: Callable[[str], bool], *, beside: bool = False) -> None:
        super().__init__(ledger, in_flight, beside=beside)
        self._given_up: set[int] = set()
        """Trials whose measurement failed: their predicted latency stays."""

    @property
    def reason(self) -> JobReason | None:
        """As there; and no member of the front may be left unmeasured."""
        if self._screens.is_sampling or self._ledger.waiting_trials():
            return None
        return None if self._to_measure() else super().reason

    def _step(self) -> Work | bool:
        if (work := self._screens.next_of_sample()) is not None:
            return work
        for trial in self._ledger.waiting_trials():
            if step := self._settle(trial):
                return step
        if self._may_propose():
            return self._screens.propose() if self._references_ended() else False
        return self._measure_front() if self._screens.is_idle else False

    def take(self, work: Work, outcome: Outcome) -> None:
        trial = None if work.key not in self._owner else self._ledger.trials[self._owner[work.key]]
        if trial is None:
            super().take(work, outcome)
            return
        del self._owner[work.key]
        if outcome.result is None:
            self._given_up.add(trial.number)
            if trial.state != "completed":
                self._ledger.fail(trial, outcome.reason or "internal", outcome.message)
        elif work.stage == "screen":
            self._take_score(trial, outcome.result)
        else:
            self._take_measures(trial, outcome.result)

    def _references_ended(self) -> bool:
        """Predictions begin with their latencies."""
        return all(row.state in FINAL_TRIAL_STATES for row in self._ledger.references)

    # -- trials ------------------------------------------------------------------------------------

    def _settle(self, trial: TrialRecord) -> Work | bool:
        """A trial is told of with its prediction; a reference is scored and measured first."""
        if PROXY_SCORE not in trial.values:
            if trial.number < 0:
                return self._score(trial)
            self._ledger.fail(trial, "invalid_result", "no proxy gave a number; name others in proxies")
            return True
        if trial.number < 0 or (trial.origin in GIVEN and trial.number < MEASURED_FIRST):
            return self._measure(trial)
        self._complete(trial, {})
        return True

    def _complete(self, trial: TrialRecord, found: Mapping[str, Measurement]) -> None:
        self._ledger.complete(trial, found, rung=1)

    def _score(self, trial: TrialRecord) -> Work | bool:
        """Proxies of a reference, once the sample that they are read against is there."""
        if self._screens.is_sampling:
            return False
        architecture = self._ledger.architecture(trial)
        payload = {
            "architectures": [architecture.canonical_json],
            "proxies": list(self._plan.proxies),
            "seed": self._plan.spec.strategy.seed,
            "known_blocks": sorted(block.id for block in blocks_of(architecture, self._plan.target)),
        }
        work = Work(f"score/{architecture.id}", "screen", payload, self._plan.spec.limits.trial_timeout)
        return self._given_out(work, trial)

    def _take_score(self, trial: TrialRecord, result: Mapping[str, Any]) -> None:
        scores = {name: unpack(value) for name, value in result["proxies"][0].items()}
        found = self._screens.promised(scores)
        if found:
            self._ledger.set_state(self._ledger.take_values(trial, found), "waiting")
        else:
            self._ledger.fail(trial, "invalid_result", "no proxy gave a number; name others in proxies")

    def _measure(self, trial: TrialRecord) -> Work | bool:
        """Whole-model latency of an untrained network: weights do not change it."""
        if (row := self._ledger.known_latency(trial)) is not None:
            self._complete(trial, {"latency_s": row})
            return True
        payload: dict[str, Any] = {
            "architecture": self._ledger.architecture(trial).canonical_json,
            "checkpoint": None,
            "parts": [],
            "latency": True,
        }
        key = f"measure/{trial.architecture_id}/0/0"
        return self._given_out(Work(key, "measure", payload, self._plan.spec.limits.trial_timeout), trial)

    def _take_measures(self, trial: TrialRecord, result: Mapping[str, Any]) -> None:
        found = self._ledger.keep_measures(trial, result, mark="", steps=0, repeat=0)
        self._complete(trial, found)

    def _given_out(self, work: Work, trial: TrialRecord) -> Work | bool:
        if self._in_flight(work.key):
            return False
        self._owner[work.key] = trial.number
        return work

    # -- the front ---------------------------------------------------------------------------------

    def _measure_front(self) -> Work | bool:
        for trial in self._to_measure():
            if step := self._measure(trial):
                return step
        return False

    def _to_measure(self) -> list[TrialRecord]:
        """Members of the front by what is known now that were not measured, spread over it."""
        limits = self._plan.measured_limits
        rows = [
            row
            for row in self._ledger.search_trials
            if row.state == "completed" and violation(row.values, limits) <= 0
        ]
        places = MOST_MEASURED - sum(row.kinds.get("latency_s") == "measured" for row in rows)
        keys = self._plan.objectives
        points = [log_scaled(minimised(comparable(row.values), keys), keys) for row in rows]
        members = front(points)
        order = farthest_order([points[index] for index in members])
        spread = [rows[members[index]] for index in order]
        return [
            row
            for row in spread
            if row.kinds.get("latency_s") != "measured" and row.number not in self._given_up
        ][: max(0, places)]
