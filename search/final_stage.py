"""The final stage: front members and references trained again with several seeds at the finalists' budget.

Every finalist is trained `seeds` times, exported, evaluated in its number formats on the validation part and,
once, on the test part; its latency is measured anew on the exported model of the first seed. Then the front
is restated.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from scipy import stats

from evaluators.protocol import Measurement

from .ledger import Ledger, interval
from .objectives import minimised
from .pareto import farthest_order, log_scaled
from .records import Final, Spread, TrialRecord
from .search_stage import measuring_work, training_work
from .workers.work import Outcome, Work

log = logging.getLogger(__name__)


class FinalStage:
    """Finalists of one job. Its progress is what is stored: it can be left and taken up at any moment."""

    def __init__(self, ledger: Ledger, in_flight: Callable[[str], bool]) -> None:
        self._ledger = ledger
        self._in_flight = in_flight
        self._spec = ledger.plan.spec.finalists
        self._owner: dict[str, tuple[int, int]] = {}
        """(trial number, repeat) behind the key of a training or a measurement."""
        self._given_up: set[tuple[int, int]] = set()

    @property
    def reason(self) -> str | None:
        """Asked when nothing is in flight and `next` had nothing to give."""
        return "budget_reached" if self._ledger.job.stage == "final" or not self._numbers() else None

    def next(self) -> Work | None:
        for number in self._numbers():
            for repeat in range(self._spec.seeds):
                if (number, repeat) not in self._given_up and (work := self._work(number, repeat)):
                    return work
        if self._numbers() and self._ledger.job.stage == "search" and not self._owner:
            self._conclude()
        return None

    def take(self, work: Work, outcome: Outcome) -> None:
        number, repeat = self._owner.pop(work.key)
        trial = self._ledger.trials[number]
        if outcome.result is None:
            self._given_up.add((number, repeat))
            self._ledger.warn(
                f"finalist {trial.label}, seed {repeat}: {outcome.reason}: {outcome.message}", number
            )
        elif work.stage == "train":
            self._ledger.keep_training(
                trial.training_id, outcome.result, mark=self._ledger.final_mark, repeat=repeat
            )
        else:
            self._ledger.keep_measures(
                trial, outcome.result, mark=self._ledger.final_mark, steps=self._spec.steps, repeat=repeat,
                final=True,
            )  # fmt: skip

    def _numbers(self) -> Sequence[int]:
        """Trial numbers of the finalists; chosen once and kept with the job.

        A reference brings its other number formats along: they share its trainings, and the gain of
        architecture and of number format are told apart by them.
        """
        chosen = self._ledger.job.context.get("finalists")
        if chosen is None:
            search = choose(self._ledger.search_trials, self._ledger.job.objectives, self._spec.count)
            references = choose(self._ledger.references, self._ledger.job.objectives, self._spec.count)
            trained = {trial.training_id for trial in references}
            siblings = [trial for trial in self._ledger.references if trial.training_id in trained]
            chosen = [trial.number for trial in (*search, *siblings)] if search else []
            self._ledger.update_context(finalists=chosen)
        return list(chosen)

    def _work(self, number: int, repeat: int) -> Work | None:
        """What a finalist's seed still needs: its training, then its measurement."""
        trial, ledger = self._ledger.trials[number], self._ledger
        mark, steps = ledger.final_mark, self._spec.steps
        found = measuring_work(ledger, trial, mark=mark, steps=steps, repeat=repeat, final=True)
        if isinstance(found, Mapping):
            return None
        if found is None:
            architecture = ledger.architecture(trial).with_number_format("fp32")
            plan = asdict(ledger.plan.finalist_training)
            found = training_work(ledger, architecture, plan, repeat=repeat, until=steps)
        if self._in_flight(found.key):
            return None
        self._owner[found.key] = (number, repeat)
        return found

    def _conclude(self) -> None:
        """Every finalist's seeds into means with intervals, then the front restated."""
        for number in self._numbers():
            trial = self._ledger.trials[number]
            seeds = [
                found
                for repeat in range(self._spec.seeds)
                if (
                    found := self._ledger.measured(
                        trial, mark=self._ledger.final_mark, steps=self._spec.steps, repeat=repeat, final=True
                    )
                )
            ]
            if seeds and "latency_s" in seeds[0]:
                self._ledger.set_final(trial, summarise(seeds, self._spec.steps))
        self._ledger.restate()


def choose(trials: Sequence[TrialRecord], objectives: Sequence[str], count: int) -> list[TrialRecord]:
    """At most `count` members of the front of `trials`, spread over it, its extremes first."""
    front = [trial for trial in trials if trial.on_front]
    points = [log_scaled(minimised(trial.values, objectives), objectives) for trial in front]
    return [front[index] for index in farthest_order(points)[:count]]


def summarise(seeds: Sequence[Mapping[str, Measurement]], steps: int) -> Final:
    """Means over seeds with 95 % t-intervals; the latency is that of the first seed's model, with its own."""
    means: dict[str, float] = {}
    spreads: dict[str, Spread] = {}
    for key in seeds[0]:
        values = [found[key].value for found in seeds if key in found]
        known = [value for value in values if value is not None]
        if key == "latency_s":
            latency = seeds[0][key]
            means[key] = known[0]
            if (own := interval(latency)) is not None:
                spreads[key] = own
            for name in ("p50_s", "p95_s"):
                if name in latency.detail:
                    means[f"latency_{name}"] = float(latency.detail[name])
        elif known:
            means[key] = sum(known) / len(known)
            if len(known) > 1:
                spreads[key] = t_interval(known)
    return Final(
        seeds=len(seeds),
        steps=steps,
        values={key: value for key, value in means.items() if not key.startswith("test.")},
        spread={key: value for key, value in spreads.items() if not key.startswith("test.")},
        test={key.removeprefix("test."): value for key, value in means.items() if key.startswith("test.")},
        test_spread={
            key.removeprefix("test."): value for key, value in spreads.items() if key.startswith("test.")
        },
    )


def t_interval(values: Sequence[float]) -> Spread:
    """95 % interval of the mean of two or more values, Student's t.

    >>> t_interval([1.0, 2.0, 3.0]).low < 0 < 4 < t_interval([1.0, 2.0, 3.0]).high
    True
    """
    n = len(values)
    mean = sum(values) / n
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stats.t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return Spread(mean - half, mean + half, n)


__all__ = ["FinalStage", "choose", "summarise", "t_interval"]
