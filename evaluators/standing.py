"""Where an architecture stands in a frozen sample of its space: a rank that nobody else changes.

    S(a) = mean over proxies k of log p_k(a),      p_k = (M F_k(x) + 1) / (M + 2)

F_k is the distribution of proxy k over the M architectures of the sample, linear between its values; x is
turned so that larger is better. Beyond the sample, r interquartile ranges below its least value or above its
largest one:      log p = log p(least) - r            log p = log p(largest) + r / (M + 2)

The logarithm punishes being bad anywhere. Ranks among the candidates at hand move with their company; these
do not, so they compare over a whole job. A score that is not finite is worse than any other; a proxy that an
architecture cannot have is left out of its mean.

    residual     p_k(a) - g_k(log params),     g_k: the monotone curve nearest to p_k on the sample

Source: the form of Lee and Ham 2024, arXiv:2403.19232 (AZ-NAS), with the distribution of a frozen sample in
place of the population's; isotonic regression: Barlow et al. 1972.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .protocol import Measurement
from .proxies import oriented, proxy
from .rank_statistics import spearman

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of one proxy over the sample; larger is better."""

    values: Values
    """Finite ones, sorted."""
    count: int
    """With those that are not finite, which are below all."""

    @classmethod
    def of(cls, scores: Sequence[float]) -> "Distribution":
        array = np.asarray(scores, dtype=np.float64)
        return cls(np.sort(array[np.isfinite(array)]), len(array))

    def log_p(self, score: float) -> float:
        """log p of a score; -inf where it is not finite."""
        if not math.isfinite(score):
            return -math.inf
        if not len(self.values):
            return math.log(0.5)
        least, largest = float(self.values[0]), float(self.values[-1])
        ends = [math.log(self._p(end)) for end in (least, largest)]
        if score < least:
            return ends[0] - (least - score) / self._unit
        if score > largest:
            return ends[1] + (score - largest) / self._unit / (self.count + 2)
        return math.log(self._p(score))

    def _p(self, score: float) -> float:
        """Equal values of the sample share the middle of their places."""
        missing = self.count - len(self.values)
        distinct, first, ties = np.unique(self.values, return_index=True, return_counts=True)
        places = missing + first + ties / 2.0
        return float((np.interp(score, distinct, places) + 1.0) / (self.count + 2.0))

    @property
    def _unit(self) -> float:
        """The interquartile range; the whole one, or 1, where that is 0."""
        low, high = np.quantile(self.values, [0.25, 0.75])
        return float(high - low) or float(np.ptp(self.values)) or 1.0


@dataclass(frozen=True, slots=True)
class Standings:
    """The sample's distributions, by proxy."""

    distributions: Mapping[str, Distribution]

    @classmethod
    def of(cls, sample: Sequence[Mapping[str, Measurement]]) -> "Standings":
        """From the scores of the sample's architectures; those that cannot have a proxy are not of its
        distribution."""
        names = dict.fromkeys(name for scores in sample for name in scores)
        columns = {name: [oriented(proxy(name), scores.get(name)) for scores in sample] for name in names}
        return cls(
            {
                name: Distribution.of([score for score in column if score is not None])
                for name, column in columns.items()
            }
        )

    def of_scores(self, scores: Mapping[str, Measurement]) -> float:
        """S of an architecture; that of the middle of the sample where it has none of the proxies."""
        known = {name: oriented(proxy(name), measured) for name, measured in scores.items()}
        logs = [
            self.distributions[name].log_p(score)
            for name, score in known.items()
            if score is not None and name in self.distributions
        ]
        return math.fsum(logs) / len(logs) if logs else math.log(0.5)


@dataclass(frozen=True, slots=True)
class SizeCurve:
    """How p of one proxy goes with size over the sample."""

    distribution: Distribution
    log_params: Values
    levels: Values
    """Of the curve at these sizes; linear between them, constant beyond."""

    @classmethod
    def of(cls, scores: Sequence[float], params: Sequence[float]) -> "SizeCurve":
        """Rising or falling, whichever the sample says."""
        from sklearn.isotonic import IsotonicRegression  # a second of import that a server does not need

        distribution = Distribution.of(scores)
        p = np.exp([distribution.log_p(score) for score in scores])
        curve = IsotonicRegression(increasing=not spearman(params, p) < 0.0)
        curve.fit(np.log(np.asarray(params, dtype=np.float64)), p)
        return cls(distribution, np.asarray(curve.X_thresholds_), np.asarray(curve.y_thresholds_))

    def residual(self, score: float, params: float) -> float:
        """What size does not explain; beside size, never in its place."""
        return self.beyond(math.exp(self.distribution.log_p(score)), params)

    def beyond(self, p: float, params: float) -> float:
        """The residual of a place `p` in the sample, 0 to 1."""
        return p - float(np.interp(math.log(params), self.log_params, self.levels))


@dataclass(frozen=True, slots=True)
class BeyondSize:
    """What size does not explain of every proxy, for architectures of any size."""

    curves: Mapping[str, SizeCurve]

    @classmethod
    def of(cls, sample: Sequence[Mapping[str, Measurement]], params: Sequence[float]) -> "BeyondSize":
        """From the scores and sizes of the sample's architectures."""
        curves = {}
        for name in dict.fromkeys(name for scores in sample for name in scores):
            column = (oriented(proxy(name), scores.get(name)) for scores in sample)
            known = [(score, size) for score, size in zip(column, params, strict=True) if score is not None]
            if known:
                curves[name] = SizeCurve.of(*map(list, zip(*known, strict=True)))
        return cls(curves)

    def of_values(self, values: Mapping[str, float], params: float) -> dict[str, float]:
        """Residual of every proxy, from raw values by its id; 0, which says nothing, where there is none."""
        return {
            name: curve.residual(values[name] * (1.0 if proxy(name).direction == "max" else -1.0), params)
            if name in values
            else 0.0
            for name, curve in self.curves.items()
        }
