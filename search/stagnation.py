"""When a search has stopped growing: `budget.least_gain` of a job.

    stop when  HV_t < (1 + g) HV_(t-W)     t results, W = max(25, 0.15 t), from t = max(30, 3 n_start) on

HV_(t-W) is the hypervolume of what was counted before trial t - W was made. Where the strategy has a model,
the best candidate it knows must besides be expected to add less than g HV_t: a model that still sees room
goes on.

Source: evaluators_and_search.md 14.1.
"""

from collections.abc import Callable

from .history import has_result
from .indicators import Scale, counted
from .ledger import Ledger

LEAST_WINDOW = 25
WINDOW_SHARE = 0.15
LEAST_RESULTS = 30
START_FACTOR = 3


class Stagnation:
    """Asked before every proposal; computes when there is a new trial, and only if the job wants it."""

    def __init__(self, ledger: Ledger, expected_growth: Callable[[], float | None] = lambda: None) -> None:
        """`expected_growth`: of the best known candidate, as a fraction of the hypervolume; None without a
        model."""
        self._ledger = ledger
        self._expected_growth = expected_growth
        self._looked_at = 0
        self._reached = False

    def reached(self) -> bool:
        least_gain = self._ledger.plan.spec.budget.least_gain
        if least_gain is not None and not self._reached and self._ledger.num_search > self._looked_at:
            self._looked_at = self._ledger.num_search
            self._reached = self._is_flat(least_gain) and self._sees_no_room(least_gain)
        return self._reached

    def _sees_no_room(self, least_gain: float) -> bool:
        expected = self._expected_growth()
        return expected is None or expected < least_gain

    def _is_flat(self, least_gain: float) -> bool:
        trials = [trial for trial in self._ledger.search_trials if has_result(trial)]
        starts = sum(trial.origin in ("enqueued", "start") for trial in trials)
        if len(trials) < max(LEAST_RESULTS, START_FACTOR * starts):
            return False
        objectives = self._ledger.job.objectives
        scale = Scale.of(counted(self._ledger.references, objectives, with_infeasible=True), objectives)
        if scale is None:
            return False
        began = trials[-max(LEAST_WINDOW, int(WINDOW_SHARE * len(trials)))].created_at
        now = counted(trials, objectives)
        before = [trial for trial in now if trial.ended_at is not None and trial.ended_at <= began]
        volume = scale.hypervolume([trial.values for trial in now])
        earlier = scale.hypervolume([trial.values for trial in before])
        return earlier > 0 and volume < (1 + least_gain) * earlier
