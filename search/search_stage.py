"""The search itself: which piece of work comes next, and what a result means for its trial.

    proposal -> screen -> train rung 1 -> ... -> train last rung -> measure whole -> counted
                (k candidates, one kept)  (promoted or pruned)     (only what could join the front)

References go the same way without screen and promotion. A result that stands in the database already, from
this job or an earlier one, is taken from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from .history import History
from .ledger import Ledger
from .multifidelity import Promotion, RungResult, next_promotion
from .objectives import comparable, minimised
from .outlook import Outlook
from .pareto import dominates, log_scaled, violation
from .proxy_trust import ProxyTrust
from .records import JobReason, TrialRecord
from .screening import Screens
from .stage_work import measuring_work, training_work
from .stagnation import Stagnation
from .warm_start import WarmStart
from .workers.work import Outcome, Work


class SearchStage:
    """References, proposals, rungs and measurements of one job."""

    def __init__(self, ledger: Ledger, in_flight: Callable[[str], bool], *, beside: bool = False) -> None:
        """`beside`: a strategy with a model is asked in a process of its own, which `close` ends."""
        self._ledger = ledger
        self._in_flight = in_flight
        self._plan = plan = ledger.plan
        self._rungs = plan.spec.training.rung_steps()
        self._owner: dict[str, int] = {}
        """Trial number behind the key of a training or a measurement."""
        self._trust = ProxyTrust(ledger)
        self._outlook = Outlook(ledger)
        earlier = WarmStart(ledger)
        self._screens = Screens(ledger, self._trust, History(ledger, earlier), earlier, beside=beside)
        self._stagnation = Stagnation(ledger, self._screens.expected_growth)

    def close(self) -> None:
        self._screens.close()

    @property
    def message(self) -> str | None:
        """Words beside `reason`."""
        return self._screens.message

    def owner(self, key: str) -> int | None:
        """The trial that a piece of work belongs to; None for a screening."""
        return self._owner.get(key)

    def prepare(self) -> None:
        """Creates the reference trials, once per job."""
        for index, reference in enumerate(self._plan.references, start=1):
            if -index not in self._ledger.trials:
                self._ledger.create_trial(
                    -index, reference.architecture, origin="reference", note=reference.name,
                    asked_after=self._ledger.last_event(), known={},
                )  # fmt: skip

    @property
    def reason(self) -> JobReason | None:
        """Why the search is over; asked when nothing is in flight and `next` had nothing to give."""
        if self._may_propose() or self._next_waiting() or self._promotable() is not None:
            return None
        if self._screens.ended:
            return self._screens.ended
        if self._screens.next_number() >= self._plan.spec.budget.trials:
            return "budget_reached"
        return "stagnated" if self._stagnation.reached() else "time_reached"

    def _may_propose(self) -> bool:
        return self._screens.may_propose(self._stagnation.reached)

    def next(self) -> Work | None:
        while True:
            step = self._step()
            if step is not True:
                return step or None

    def _step(self) -> Work | bool:
        """Work to start; True when something was settled without work; False when there is nothing to do.

        What is furthest goes first: measurements, then promotions. References and new trials start in turn,
        so that the front and what it is compared with grow together.
        """
        waiting = self._next_waiting()
        for trial in waiting:
            if trial.rung == len(self._rungs) and (step := self._measure(trial)):
                return step
        if (promotion := self._promotable()) and (step := self._train(self._ledger.trials[promotion.number])):
            return step
        for trial in waiting:
            is_ahead = trial.number < 0 and trial.rung == 0 and -trial.number > self._screens.next_number()
            if is_ahead and self._may_propose() and (step := self._screens.propose()):
                return step
            if trial.rung < len(self._rungs) and (step := self._train(trial)):
                return step
        return self._screens.propose() if self._may_propose() else False

    def take(self, work: Work, outcome: Outcome) -> None:
        if work.stage == "screen":
            self._screens.take(work.key, outcome)
            return
        trial = self._ledger.trials[self._owner.pop(work.key)]
        if outcome.result is None:
            self._ledger.fail(trial, outcome.reason or "internal", outcome.message)
        elif work.stage == "train":
            self._take_training(trial, work, outcome.result)
        else:
            self._take_measures(trial, outcome.result)
        self._trust.look()

    # -- trials ------------------------------------------------------------------------------------

    def _next_waiting(self) -> list[TrialRecord]:
        """Trials that may go on without being promoted, the most trained first: new ones, references, and
        those past the last rung."""
        rows = [
            trial
            for trial in self._ledger.waiting_trials()
            if trial.rung in (0, len(self._rungs)) or trial.number < 0
        ]
        return sorted(rows, key=lambda trial: (-trial.rung, abs(trial.number), trial.number))

    def _train(self, trial: TrialRecord) -> Work | bool:
        """A training to the trial's next rung, unless it is stored or runs for a sibling in another
        format."""
        steps = self._rungs[trial.rung]
        if metrics := self._ledger.trained(trial.training_id, steps):
            self._ledger.reach(trial, metrics, rung=trial.rung + 1, steps=steps)
            return True
        architecture = self._ledger.architecture(trial).with_number_format("fp32")
        work = training_work(self._ledger, architecture, asdict(self._plan.training), repeat=0, until=steps)
        if self._in_flight(work.key):
            return False
        self._owner[work.key] = trial.number
        return work

    def _take_training(self, trial: TrialRecord, work: Work, result: Mapping[str, Any]) -> None:
        metrics = self._ledger.keep_training(
            trial.training_id, result, mark=self._ledger.search_mark, repeat=0
        )
        self._ledger.reach(trial, metrics, rung=trial.rung + 1, steps=int(result["step"]))

    def _measure(self, trial: TrialRecord) -> Work | bool:
        """Exports and measures a trial whole; one that cannot join the front is counted with its
        prediction."""
        if trial.number >= 0 and not self._could_join(trial):
            self._ledger.complete(trial)
            return True
        work = measuring_work(
            self._ledger, trial, mark=self._ledger.search_mark, steps=self._rungs[-1], repeat=0
        )
        if work is None:  # the checkpoint is gone: train the last rung again
            self._ledger.step_back(trial, len(self._rungs) - 1)
            return True
        if isinstance(work, Mapping):
            self._ledger.complete(trial, work)
            return True
        if self._in_flight(work.key):
            return False
        self._owner[work.key] = trial.number
        return work

    def _take_measures(self, trial: TrialRecord, result: Mapping[str, Any]) -> None:
        found = self._ledger.keep_measures(
            trial, result, mark=self._ledger.search_mark, steps=self._rungs[-1], repeat=0
        )
        self._ledger.complete(trial, found)

    def _could_join(self, trial: TrialRecord, quality: float | None = None) -> bool:
        """Whether the trial, at the best its prediction allows, is dominated by no measured trial. `quality`:
        in place of its own."""
        values = dict(trial.values) | ({} if quality is None else {self._plan.quality: quality})
        for key, spread in trial.spread.items():
            if trial.kinds.get(key) == "predicted":
                values[key] = spread.low
        values = comparable(values)
        if violation(values, self._plan.measured_limits) > 0:
            return False
        best = minimised(values, self._plan.objectives)
        return not any(
            dominates(minimised(self._ledger.trials[number].values, self._plan.objectives), best)
            for number in self._ledger.front_numbers
        )

    def _promotable(self) -> Promotion | None:
        """The trial that multi-objective successive halving lets go on now; none whose best end is beaten
        already."""
        waiting = {trial.number for trial in self._ledger.waiting_trials() if trial.number >= 0}
        if not any(self._ledger.trials[number].rung for number in waiting):
            return None
        results = [
            RungResult(number, rung, self._vector(number, value))
            for (number, rung), value in self._ledger.rung_quality.items()
            if number >= 0 and self._ledger.trials[number].state != "failed"
        ]
        reduction = self._plan.spec.training.reduction
        while found := next_promotion(results, waiting, num_rungs=len(self._rungs), reduction=reduction):
            trial = self._ledger.trials[found.number]
            best = self._outlook.optimistic(trial)
            if best is None or self._could_join(trial, best):
                break
            waiting.discard(found.number)
        return found

    def _vector(self, number: int, quality: float) -> tuple[float, ...]:
        """Objectives at a rung, logarithmic where they are; latency and costs do not depend on fidelity."""
        values = {**comparable(self._ledger.trials[number].values), self._plan.quality: quality}
        return log_scaled(minimised(values, self._plan.objectives), self._plan.objectives)
