"""The best end that an unfinished training may come to: what finished trainings of the job say.

    optimistic = value at the rung + mean d - half        d_j = final_j - value_j at that rung

of the finished trainings of the same mixer family, or of all while the family has fewer than six; half: of
the 95 % prediction interval (`evaluators.curves`). None while there are too few. A curve's own extrapolation
is not used: at these budgets it ranks and bounds no better than the last value read (docs/log.md, rungs).
"""

from evaluators.curves import Finished, correction, mixer_family

from .ledger import Ledger
from .objectives import OBJECTIVES
from .records import TrialRecord


class Outlook:
    """Reads a job's rungs. References count among the finished: nobody chose them by a rung."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._last = len(ledger.plan.spec.training.rung_steps())
        self._families: dict[str, str] = {}

    def optimistic(self, trial: TrialRecord) -> float | None:
        """Quality in its stored sign; of a trial before its first or past its last rung None."""
        if not 0 < trial.rung < self._last:
            return None
        objective = OBJECTIVES[self._ledger.plan.quality]
        quality = self._ledger.rung_quality
        finished = [
            Finished(
                self._family(self._ledger.trials[number]),
                objective.minimised(quality[number, trial.rung]),
                objective.minimised(end),
            )
            for (number, rung), end in sorted(quality.items())
            if rung == self._last and (number, trial.rung) in quality
        ]
        by = correction(finished, self._family(trial))
        if by is None or (trial.number, trial.rung) not in quality:
            return None
        now = objective.minimised(quality[trial.number, trial.rung])
        return objective.minimised(now + by.shift - by.half)

    def _family(self, trial: TrialRecord) -> str:
        if trial.architecture_id not in self._families:
            self._families[trial.architecture_id] = mixer_family(self._ledger.architecture(trial))
        return self._families[trial.architecture_id]
