"""For users of Ray Tune: our strategies as its `Searcher`, our successive halving as its `TrialScheduler`.

    Tune asks for a trial     -> StrategySearcher    -> Proposer: strategy, constraints, deduplication
    a trial reaches a rung    -> MultiObjectiveASHA  -> pause; go on when `search.multifidelity` promotes it
    any result                -> Reports             -> a function of yours

A job of this service does not run under Tune (docs/decisions/0002-ray-actors.md), but the same code decides.
The trainable gets `config["architecture"]` (canonical JSON) and `config["number"]`, reports every objective
by its key, and saves checkpoints, for a paused trial goes on in another actor. Nothing that a strategy is
told mixes fidelities: a result short of the last rung says how far it came. Leave out
`max_concurrent_trials`: it counts paused trials too, and once all places are taken by trials that wait for
others to come, none comes.

    scheduler = MultiObjectiveASHA(objectives, rungs=(75, 150, 300), num_trials=60)
    searcher = StrategySearcher(proposer, objectives, num_trials=60, last=300)
    Tuner(trainable, tune_config=TuneConfig(scheduler=scheduler, search_alg=searcher, reuse_actors=True))

`examples/ray_tune.py` is a whole search of this kind.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from space.architecture import Architecture, parse_architecture
from space.errors import InvalidInputError

from ..multifidelity import RungResult, next_promotion
from ..objectives import minimised
from ..pareto import log_scaled
from ..proposer import Proposer, SpaceExhausted
from ..strategies import Told

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

TIME = "training_iteration"


@dataclass(slots=True)
class _Asked:
    """A trial of Tune, as the strategy knows it."""

    number: int
    architecture: Architecture
    values: dict[str, float] | None = None
    time: float = 0.0
    has_failed: bool = False


class StrategySearcher(Searcher):
    """One of our strategies behind Tune's interface."""

    def __init__(
        self,
        proposer: Proposer,
        objectives: Sequence[str],
        *,
        num_trials: int,
        last: float,
        time_attr: str = TIME,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """`objectives`: keys of `search.objectives`, the quality first. `last`: `time_attr` of a whole
        training. `more`: what every trial's config has besides."""
        super().__init__(metric=objectives[0], mode="min")
        self._proposer = proposer
        self._objectives = tuple(objectives)
        self._num_trials = num_trials
        self._last = last
        self._time_attr = time_attr
        self._more = dict(more or {})
        self._asked: dict[str, _Asked] = {}

    def suggest(  # type: ignore[override]  # Tune says None or a mapping, and means its constant too
        self, trial_id: str
    ) -> dict[str, Any] | str:
        number = len(self._asked)
        if number >= self._num_trials:
            return str(Searcher.FINISHED)
        pending = [one.architecture for one in self._asked.values() if not (one.values or one.has_failed)]
        try:
            drawn = self._proposer.candidates(number, 1, self._told(), pending).proposals[0]
        except SpaceExhausted:
            return str(Searcher.FINISHED)
        self._asked[trial_id] = _Asked(number, drawn.architecture)
        return {**self._more, "architecture": drawn.architecture.canonical_json, "number": number}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        one = self._asked[trial_id]
        one.values = {key: float(result[key]) for key in self._objectives}
        one.time = float(result[self._time_attr])

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        if error:
            self._asked[trial_id].has_failed = True
        elif result is not None and self._objectives[0] in result:
            self.on_trial_result(trial_id, result)

    def _told(self) -> list[Told]:
        found = []
        for one in self._asked.values():
            if one.has_failed:
                found.append(Told(one.number, one.architecture, None))
            elif one.values:
                fidelity = min(1.0, one.time / self._last)
                vector = minimised(one.values, self._objectives)
                found.append(
                    Told(
                        one.number, one.architecture, vector, complete=fidelity >= 1.0, fidelity=fidelity
                    )
                )  # fmt: skip
        return found

    def save(self, checkpoint_path: str) -> None:
        rows = {
            trial_id: [one.number, one.architecture.canonical_json, one.values, one.time, one.has_failed]
            for trial_id, one in self._asked.items()
        }
        Path(checkpoint_path).write_text(json.dumps(rows))

    def restore(self, checkpoint_path: str) -> None:
        rows = json.loads(Path(checkpoint_path).read_text())
        self._asked = {
            trial_id: _Asked(number, parse_architecture(text), values, time, has_failed)
            for trial_id, (number, text, values, time, has_failed) in rows.items()
        }


class MultiObjectiveASHA(TrialScheduler):
    """Promotion by non-dominated rank (`search.multifidelity`): a trial pauses at every rung."""

    def __init__(
        self,
        objectives: Sequence[str],
        *,
        rungs: Sequence[float],
        num_trials: int,
        reduction: int = 2,
        time_attr: str = TIME,
    ) -> None:
        """`rungs`: `time_attr` at the end of each, rising; the last is a whole training. `num_trials`: of the
        searcher; when they are all there and none may go on, those that wait are ended.

        Raises:
            InvalidInputError: rungs that do not rise.
        """
        super().__init__()  # type: ignore[no-untyped-call]  # Tune
        if not rungs or list(rungs) != sorted(set(rungs)):
            raise InvalidInputError(f"rungs={list(rungs)} do not rise; give the end of each, first to last")
        self._objectives = tuple(objectives)
        self._rungs = tuple(rungs)
        self._num_trials = num_trials
        self._reduction = reduction
        self._time_attr = time_attr
        self._numbers: dict[str, int] = {}
        self._results: dict[tuple[int, int], RungResult] = {}

    @property
    def results(self) -> list[RungResult]:
        """What trials reached, a rung each; trials by the order in which Tune made them."""
        return list(self._results.values())

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Several objectives have no one metric; whatever Tune says is fine."""
        return True

    def on_trial_add(self, tune_controller: "TuneController", trial: Trial) -> None:
        self._numbers.setdefault(trial.trial_id, len(self._numbers))

    def on_trial_result(
        self, tune_controller: "TuneController", trial: Trial, result: Mapping[str, Any]
    ) -> str:
        number = self._numbers[trial.trial_id]
        reached = [k for k, end in enumerate(self._rungs, start=1) if result[self._time_attr] >= end]
        new = [rung for rung in reached if (number, rung) not in self._results]
        values = {key: float(result[key]) for key in self._objectives}
        vector = log_scaled(minimised(values, self._objectives), self._objectives)
        for rung in new:
            self._results[number, rung] = RungResult(number, rung, vector)
        if len(self._rungs) in reached:
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.PAUSE if new else TrialScheduler.CONTINUE)

    def on_trial_complete(
        self, tune_controller: "TuneController", trial: Trial, result: Mapping[str, Any]
    ) -> None:
        """Its rungs stay: those of others are compared with them."""

    def on_trial_error(self, tune_controller: "TuneController", trial: Trial) -> None:
        """A failed trial has no say about the others."""
        number = self._numbers[trial.trial_id]
        self._results = {key: one for key, one in self._results.items() if one.number != number}

    def on_trial_remove(self, tune_controller: "TuneController", trial: Trial) -> None:
        """As `on_trial_complete`."""

    def choose_trial_to_run(self, tune_controller: "TuneController") -> Trial | None:
        """The promotion to start now; else a new trial."""
        known: list[Trial] = tune_controller.get_trials()  # type: ignore[no-untyped-call]  # Tune
        trials = {self._numbers[trial.trial_id]: trial for trial in known}
        paused = {number for number, trial in trials.items() if trial.status == Trial.PAUSED}
        found = next_promotion(self.results, paused, num_rungs=len(self._rungs), reduction=self._reduction)
        if found is not None:
            return trials[found.number]
        for trial in trials.values():
            if trial.status == Trial.PENDING:
                return trial
        if len(trials) >= self._num_trials and not any(
            trial.status == Trial.RUNNING for trial in trials.values()
        ):
            for number in sorted(paused):
                tune_controller.stop_trial(trials[number])  # type: ignore[no-untyped-call]  # Tune
        return None

    def debug_string(self) -> str:
        counts = [sum(one.rung == rung for one in self.results) for rung in range(1, len(self._rungs) + 1)]
        return f"MultiObjectiveASHA: trials at each rung {counts}"

    def save(self, checkpoint_path: str) -> None:
        rows = [[one.number, one.rung, list(one.vector)] for one in self.results]
        Path(checkpoint_path).write_text(json.dumps({"numbers": self._numbers, "results": rows}))

    def restore(self, checkpoint_path: str) -> None:
        stored = json.loads(Path(checkpoint_path).read_text())
        self._numbers = dict(stored["numbers"])
        self._results = {
            (number, rung): RungResult(number, rung, tuple(vector))
            for number, rung, vector in stored["results"]
        }


class Reports(Callback):
    """Hands every result of Tune to a function: number of the trial, its architecture, what it reported."""

    def __init__(self, take: Callable[[int, Architecture, Mapping[str, Any]], None]) -> None:
        self._take = take

    def on_trial_result(
        self, iteration: int, trials: Sequence[Trial], trial: Trial, result: Mapping[str, Any], **info: Any
    ) -> None:
        architecture = parse_architecture(trial.config["architecture"])
        self._take(int(trial.config["number"]), architecture, result)
