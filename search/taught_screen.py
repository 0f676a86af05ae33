"""What a candidate's size and proxies promise, as the trainings of its own job say.

    quality = w . (log parameters, depth, r_1, ..., r_K)        r_k: what size does not explain of proxy k

A ridge line over the trainings at the highest rung that 20 trials have reached; size stands beside what is
corrected for it, never alone. Until then candidates are read by their standing in the frozen sample, which
takes every proxy as published; the line gives each the sign and the weight that it has on this task. How well
it orders trainings that it has not seen is kept with the job; while that is no better than chance, it has no
say.

Source: evaluators_and_search.md 5.3, 5.4.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluators.protocol import Measurement
from evaluators.proxies import oriented, proxy
from evaluators.rank_statistics import kendall
from evaluators.standing import BeyondSize
from space.architecture import Architecture
from space.costs import num_params

from .ledger import Ledger
from .proxy_trust import ProxyTrust
from .reference_sample import ReferenceSample
from .surrogates.ridge import Ridge, fit_ridge
from .verdicts import LINE_KEY, NEWEST, Finished, is_due

LEAST_TAUGHT = 20
"""Trainings before there is a line."""
FOLDS = 10
SIZES = ("log_params", "depth")


@dataclass(frozen=True, slots=True)
class Line:
    """Fitted to `trainings`."""

    ridge: Ridge
    beyond: BeyondSize
    trainings: int
    tau: float
    """Kendall's tau with quality of trainings that the line has not seen."""

    def ranks(
        self, models: Sequence[Architecture], scores: Sequence[Mapping[str, Measurement]]
    ) -> list[float]:
        """Smaller is better. A proxy that failed on an architecture counts as badly as the line lets it."""
        rows = [self._row(model, own) for model, own in zip(models, scores, strict=True)]
        return [-float(promised) for promised in self.ridge.predict(np.array(rows))[0]]

    def _row(self, model: Architecture, scores: Mapping[str, Measurement]) -> list[float]:
        params = float(num_params(model))
        known = {name: one.value for name, one in scores.items() if one.value is not None}
        row = row_of(self.beyond, params, float(len(model.layers)), known)
        for place, (name, curve) in enumerate(self.beyond.curves.items(), start=len(SIZES)):
            if name in scores and oriented(proxy(name), scores[name]) is not None and name not in known:
                row[place] = curve.beyond(0.0 if self.ridge.weights[place] >= 0.0 else 1.0, params)
        return row

    def described(self) -> dict[str, Any]:
        """As JSON; weights per standard deviation, positive: more of it promises better."""
        names = (*SIZES, *self.beyond.curves)
        weights = {name: round(float(w), 6) for name, w in zip(names, self.ridge.weights, strict=True)}
        return {"trainings": self.trainings, "tau": round(self.tau, 6), "weights": weights}


def row_of(beyond: BeyondSize, params: float, depth: float, values: Mapping[str, float]) -> list[float]:
    """What the line reads of an architecture."""
    return [math.log(params), depth, *beyond.of_values(values, params).values()]


def fit_line(finished: Sequence[Finished], beyond: BeyondSize) -> Line:
    """A pure function, whatever the order given."""
    known = sorted(finished, key=lambda one: one.number)[-NEWEST:]
    rows = np.array([row_of(beyond, one.params, one.depth, one.scores) for one in known])
    quality = np.array([one.quality for one in known])
    folds = np.arange(len(known)) % FOLDS
    unseen = np.empty(len(known))
    for fold in range(FOLDS):
        there = folds == fold
        unseen[there] = fit_ridge(rows[~there], quality[~there]).predict(rows[there])[0]
    tau = kendall(unseen, quality)
    return Line(fit_ridge(rows, quality), beyond, len(known), tau if math.isfinite(tau) else 0.0)


class TaughtScreen:
    """The line of one job, fitted anew as its trainings finish."""

    def __init__(self, ledger: Ledger, sample: ReferenceSample, trust: ProxyTrust) -> None:
        self._ledger = ledger
        self._sample = sample
        self._trust = trust
        self._line: Line | None = None
        self._results = 0
        """Rungs trials had reached when the line was fitted."""

    def now(self) -> Line | None:
        """None until there are trainings enough, without a sample, and while it orders nothing."""
        results = len(self._ledger.rung_quality)
        beyond = self._sample.beyond_size
        if beyond is not None and results >= LEAST_TAUGHT and is_due(results, self._results):
            self._results = results
            finished = self._trust.trainings(LEAST_TAUGHT)
            if len(finished) >= LEAST_TAUGHT:
                self._line = fit_line(finished, beyond)
                self._ledger.update_context(**{LINE_KEY: self._line.described()})
        return self._line if self._line is not None and self._line.tau > 0.0 else None
