"""Which proxies of a job still have a say: judged anew as its trainings finish, kept in its context.

Told to whoever follows the job by an event `proxy.verdict` for every proxy whose verdict changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from evaluators.protocol import Measurement
from evaluators.proxies import proxy, proxy_fingerprint

from .ledger import Ledger
from .objectives import OBJECTIVES
from .verdicts import LEAST, NEWEST, Finished, ProxyVerdict, distrusted, is_due, storable, stored, verdicts


class ProxyTrust:
    """Reads a job's rungs and stored scores; a coordinator that takes over goes on with what is kept."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._found, self._judged = stored(ledger.job.context)
        self._results = 0
        """Rungs trials had reached when they were last counted."""

    def distrusted(self) -> frozenset[str]:
        """Proxies that have no say now."""
        self.look()
        return distrusted(self._found)

    def look(self) -> None:
        """Judges anew when enough trainings have finished since the last time."""
        names, results = self._ledger.plan.proxies, self._ledger.rung_quality
        if names and is_due(len(results), self._results):
            self._results = len(results)
            rung, numbers = self._reached(LEAST)
            if is_due(len(numbers), self._judged):
                self._judged = len(numbers)
                self._keep(verdicts(self._finished(numbers, rung), names))

    def trainings(self, least: int) -> list[Finished]:
        """Those of the search at the highest rung that `least` trials have reached; none before, so that
        what is compared has been trained for as long."""
        rung, numbers = self._reached(least)
        return self._finished(numbers, rung) if len(numbers) >= least else []

    def _reached(self, least: int) -> tuple[int, list[int]]:
        """The highest rung that so many trials have reached, 1 until there are as many; and those trials."""
        results = [key for key in self._ledger.rung_quality if key[0] >= 0]
        reached = [rung for _, rung in results]
        best = max((rung for rung in set(reached) if reached.count(rung) >= least), default=1)
        return best, [number for number, rung in results if rung == best]

    def _finished(self, numbers: Sequence[int], rung: int) -> list[Finished]:
        """One per training, of the newest: trials that differ in number formats alone share it."""
        ledger, plan = self._ledger, self._ledger.plan
        newest = sorted(numbers)[-NEWEST:]
        trials = {ledger.trials[number].training_id: ledger.trials[number] for number in newest}
        subjects = [trial.architecture_id for trial in trials.values()]
        values = {
            name: ledger.computed(
                subjects,
                name,
                proxy_fingerprint(proxy(name), digest=plan.data.digest),
                seed=plan.spec.strategy.seed,
            )
            for name in plan.proxies
        }
        sign = OBJECTIVES[plan.quality].minimised(1.0)
        return [
            Finished(
                number=trial.number,
                quality=-sign * ledger.rung_quality[trial.number, rung],
                params=trial.values["params"],
                depth=float(len(ledger.architecture(trial).layers)),
                scores={
                    name: found[trial.architecture_id]
                    for name, found in values.items()
                    if trial.architecture_id in found
                },
            )
            for trial in trials.values()
        ]

    def _keep(self, found: list[ProxyVerdict]) -> None:
        before = {one.proxy: one.verdict for one in self._found}
        changed = [one for one in found if before.get(one.proxy) != one.verdict]
        self._found = found
        self._ledger.keep_verdicts(storable(found, self._judged), [asdict(one) for one in changed])


def trusted(
    scores: Sequence[Mapping[str, Measurement]], ignored: frozenset[str]
) -> list[Mapping[str, Measurement]]:
    """Scores without those of proxies that have no say."""
    return [{name: value for name, value in own.items() if name not in ignored} for own in scores]
