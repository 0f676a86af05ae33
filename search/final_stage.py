"""The final stage: front members and references trained again with several seeds at the finalists' budget.

Every finalist is trained `seeds` times, exported, evaluated in its number formats on the validation part and,
once, on the test part; its latency is measured anew on the exported model of the first seed. Then the front
is restated.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import scipy

from evaluators.protocol import Measurement

from .evidence import interval
from .job import LARGEST
from .ledger import Ledger
from .objectives import minimised
from .pareto import farthest_order, log_scaled, nondominated_ranks
from .records import Final, JobReason, Spread, TrialRecord
from .stage_work import measuring_work, training_work
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

    def owner(self, key: str) -> int | None:
        """See `JobStage`."""
        return self._owner[key][0] if key in self._owner else None

    @property
    def reason(self) -> JobReason | None:
        """Asked when nothing is in flight and `next` had nothing to give."""
        is_over = self._ledger.job.stage == "final" or not any(map(self._repeats, self._numbers()))
        return "budget_reached" if is_over else None

    def next(self) -> Work | None:
        for number in self._numbers():
            for repeat in self._repeats(number):
                if work := self._work(number, repeat):
                    return work
        if self._numbers() and self._ledger.job.stage == "search" and not self._owner:
            self.conclude()
        return None

    def _repeats(self, number: int) -> list[int]:
        """Seeds of a finalist that have not failed; the first of them also gives its latency."""
        return [repeat for repeat in self._seeds if (number, repeat) not in self._given_up]

    @property
    def _seeds(self) -> range:
        """Without 0, the search's: a finalist was chosen by that training, so its luck is in it."""
        return range(1, self._spec.seeds + 1)

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
            self._tell_progress()
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
            search = self._chosen()
            trained = reference_trainings(
                self._ledger.references, self._ledger.job.objectives, self._spec.count
            )
            siblings = [trial for trial in self._ledger.references if trial.training_id in trained]
            chosen = [trial.number for trial in (*search, *siblings)] if search else []
            self._ledger.update_context(finalists=chosen, teacher=self._teacher() if chosen else None)
            if chosen:
                self._tell_progress()
        return list(chosen)

    def _tell_progress(self) -> None:
        """How many trainings of the finalists have ended, of how many; number formats share theirs."""
        ledger, steps = self._ledger, self._spec.steps
        runs = {
            (ledger.trials[number].training_id, repeat)
            for number in self._numbers()
            for repeat in self._seeds
        }
        ended = sum(
            ledger.has_training(training_id, mark=ledger.final_mark, steps=steps, repeat=repeat)
            for training_id, repeat in runs
        )
        ledger.update_context(finalist_trainings=[ended, len(runs)])

    def _chosen(self) -> list[TrialRecord]:
        trials = self._ledger.search_trials
        if self._spec.of == "front":
            return choose(trials, self._ledger.job.objectives, self._spec.count)
        picked = [one for one in trials if one.origin == "enqueued" and one.state == "completed"]
        return picked[: self._spec.count]

    def _teacher(self) -> dict[str, Any] | None:
        """Whom finalists learn from, as it is kept with the job: the user's model, or the largest
        architecture, of the search or a reference, that was trained to the end of the search's budget."""
        ledger = self._ledger
        if self._spec.teacher != LARGEST:
            own = ledger.plan.teacher
            return own.facts() if own else None
        steps, mark = ledger.plan.training.steps, ledger.search_mark
        completed = [trial for trial in ledger.trials.values() if trial.state == "completed"]
        for trial in sorted(completed, key=lambda trial: (-trial.values["params"], trial.training_id)):
            if checkpoint := ledger.checkpoint(trial.training_id, mark=mark, steps=steps, repeat=0):
                return {"trial": trial.number, "checkpoint": checkpoint, "architecture": trial.architecture}
        ledger.warn("no checkpoint is left to teach the finalists: they learn from the targets alone")
        return None

    def _work(self, number: int, repeat: int) -> Work | None:
        """What a finalist's seed still needs: its training, then its measurement."""
        trial, ledger = self._ledger.trials[number], self._ledger
        mark, steps = ledger.final_mark, self._spec.steps
        is_first = repeat == self._repeats(number)[0]
        found = measuring_work(
            ledger, trial, mark=mark, steps=steps, repeat=repeat, final=True, with_latency=is_first
        )
        if isinstance(found, Mapping):
            return None
        if found is None:
            architecture = ledger.architecture(trial).with_number_format("fp32")
            plan, teacher = asdict(ledger.finalist_training), ledger.job.context.get("teacher")
            found = training_work(
                ledger, architecture, plan, repeat=repeat, until=steps,
                teacher=json.dumps(teacher["architecture"]) if teacher else None,
            )  # fmt: skip
        if self._in_flight(found.key):
            return None
        self._owner[found.key] = (number, repeat)
        return found

    def conclude(self) -> None:
        """Seeds that have all their numbers into means per finalist, and the front restated with them.

        Also when the user stops here: what was trained counts, with as many seeds as there are.
        """
        for number in self._numbers():
            trial = self._ledger.trials[number]
            latency = self._ledger.final_latency(trial)
            seeds = [found for repeat in self._seeds if (found := self._seed(trial, repeat))]
            if seeds and latency is not None:
                self._ledger.set_final(trial, summarise(seeds, latency, self._spec.steps))
        if any(trial.final for trial in self._ledger.trials.values()):
            self._ledger.restate()
        else:
            self._ledger.warn("no finalist was trained to the end: the front stays that of the search")

    def _seed(self, trial: TrialRecord, repeat: int) -> dict[str, Measurement] | None:
        return self._ledger.measured(
            trial, mark=self._ledger.final_mark, steps=self._spec.steps, repeat=repeat, final=True,
            with_latency=False,
        )  # fmt: skip


def choose(trials: Sequence[TrialRecord], objectives: Sequence[str], count: int) -> list[TrialRecord]:
    """At most `count` members of the front of `trials`, spread over it, its extremes first."""
    front = [trial for trial in trials if trial.on_front]
    points = [log_scaled(minimised(trial.values, objectives), objectives) for trial in front]
    return [front[index] for index in farthest_order(points)[:count]]


def reference_trainings(references: Sequence[TrialRecord], objectives: Sequence[str], count: int) -> set[str]:
    """Trainings of at most `count` references: of their front, then of the front of the rest, and so on.

    A front of references that were trained for a short time may be one small model: which of them are worth
    their latency at the finalists' budget is known only once that has been spent on several sizes.
    """
    left = [trial for trial in references if trial.state == "completed"]
    trained: set[str] = set()
    while left and len(trained) < count:
        level = [trial for trial in left if trial.on_front]
        if not level:
            ranks = nondominated_ranks([minimised(trial.values, objectives) for trial in left])
            level = [trial for trial, rank in zip(left, ranks, strict=True) if rank == 0]
        points = [log_scaled(minimised(trial.values, objectives), objectives) for trial in level]
        for index in farthest_order(points):
            if len(trained) < count:
                trained.add(level[index].training_id)
        left = [trial for trial in left if trial.training_id not in trained]
    return trained


def summarise(seeds: Sequence[Mapping[str, Measurement]], latency: Measurement, steps: int) -> Final:
    """Means over seeds with 95 % t-intervals; the latency is one seed's, with its own interval."""
    means: dict[str, float] = {}
    spreads: dict[str, Spread] = {}
    for key in seeds[0]:
        known = [value for found in seeds if (value := found[key].value) is not None]
        means[key] = sum(known) / len(known)
        if len(known) > 1:
            spreads[key] = t_interval(known)
    if latency.value is not None:
        means["latency_s"] = latency.value
        if (own := interval(latency)) is not None:
            spreads["latency_s"] = own
        for name in ("p50_s", "p95_s"):
            if name in latency.detail:
                means[f"latency_{name}"] = float(latency.detail[name])
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
    half = float(scipy.stats.t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return Spread(mean - half, mean + half, n)


__all__ = ["FinalStage", "choose", "reference_trainings", "summarise", "t_interval"]
