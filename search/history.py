"""What a strategy is told of a job's trials, kept up to date trial by trial instead of written anew.

A job of 50,000 trials asks 50,000 times: only the trials that changed since the last question are looked at,
and a question costs the same however long the job is. `told_by_definition` is the same list from the rows.
"""

from bisect import insort
from collections.abc import Set as AbstractSet

from .ledger import Ledger
from .objectives import comparable, minimised
from .pareto import violation
from .records import FINAL_TRIAL_STATES, TrialRecord
from .strategies import Told
from .warm_start import WarmStart

MOST_TOLD = 1000
"""Newest results that a strategy is told of, besides the front. Duplicates are recognised among all."""


class History:
    """Results of the search as strategies see them: the front and the newest `MOST_TOLD`, by number."""

    def __init__(self, ledger: Ledger, earlier: WarmStart | None = None) -> None:
        self._ledger = ledger
        self._earlier = earlier or WarmStart(ledger)
        self._told: dict[int, Told] = {}
        self._numbers: list[int] = []
        self._ids: set[str] = set()
        ledger.changed.update(number for number in ledger.trials if number >= 0)

    @property
    def ids(self) -> AbstractSet[str]:
        """Ids of every architecture with a result, as of the last `told`; those of an earlier job that need
        no second trial among them."""
        return self._ids | self._earlier.seen if self._earlier.seen else self._ids

    def told(self) -> list[Told]:
        """Trials short of the last rung say so, so that fidelities never mix."""
        for number in self._ledger.changed:
            if number >= 0:
                self._renew(self._ledger.trials[number])
        self._ledger.changed.clear()
        newest = self._numbers[-MOST_TOLD:]
        first = newest[0] if newest else 0
        older = sorted(number for number in self._ledger.front_numbers if number < first)
        own = [self._told[number] for number in (*older, *newest)]
        return [*self._earlier.told(self._known()), *own] if self._earlier.rows else own

    def _known(self) -> dict[str, TrialRecord]:
        """The job's own trials with a result, by architecture id."""
        rows = (self._ledger.trials[number] for number in self._numbers)
        return {row.architecture_id: row for row in rows}

    def _renew(self, trial: TrialRecord) -> None:
        is_told = trial.number in self._told
        if has_result(trial):
            self._told[trial.number] = one = told_of(self._ledger, trial)
            self._ids.add(one.architecture.id)
            if not is_told:
                insort(self._numbers, trial.number)
        elif is_told:  # its only checkpoint is gone: it begins anew
            self._ids.discard(trial.architecture_id)
            self._numbers.remove(trial.number)
            del self._told[trial.number]


def told_by_definition(ledger: Ledger) -> list[Told]:
    """The same from all rows."""
    known = [trial for trial in ledger.search_trials if has_result(trial)]
    newest = {trial.number for trial in known[-MOST_TOLD:]}
    own = [told_of(ledger, trial) for trial in known if trial.on_front or trial.number in newest]
    return [*WarmStart(ledger).told({trial.architecture_id: trial for trial in known}), *own]


def has_result(trial: TrialRecord) -> bool:
    return trial.state in FINAL_TRIAL_STATES or trial.rung > 0


def told_of(ledger: Ledger, trial: TrialRecord) -> Told:
    plan = ledger.plan
    rungs = plan.spec.training.rung_steps()
    values = comparable(trial.values)
    is_known = trial.rung > 0 and all(key in values for key in plan.objectives)
    return Told(
        trial.number,
        ledger.architecture(trial),
        minimised(values, plan.objectives) if is_known else None,
        feasible="infeasible" not in trial.flags,
        violation=violation(trial.values, plan.measured_limits),
        complete=trial.state == "completed",
        fidelity=rungs[trial.rung - 1] / rungs[-1] if trial.rung else 1.0,
    )
