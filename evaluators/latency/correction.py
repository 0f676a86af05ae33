"""How a whole model differs from the sum of its blocks, learned from models that were measured whole.

    log(measured / sum) = c + w . z + error        z: share of the summed time that each trait has

Traits are what a block is made of (mixer, position it reads, feed-forward, norm, number format, part), how
many blocks there are, and the bytes of all weights. Ridge regression shrinks w to 0, that is the ratio to the
common one. Of a few penalties that are fixed here, the infinite one (a common factor alone) and no correction
at all among them, the one with the least mean absolute leave-one-out error is taken: a few disturbed models
do not decide.

The 95 % interval comes from the leave-one-out errors too, each divided by sqrt(1 + its leverage):
split-conformal from 20 models on, Student's t below; it is wider for a model unlike those measured, and wide
below 3 models.

Source: ridge and its leave-one-out errors in closed form: Hastie et al., The Elements of Statistical
Learning, section 7.10; intervals: Barber et al. 2021, arXiv:1905.02928 (jackknife+), here symmetric.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

from .estimator import t_975

ENOUGH_PAIRS = 3
ENOUGH_FOR_TRAITS = 8
"""Below so many models only the common factor is fitted."""
ENOUGH_FOR_QUANTILES = 20
"""The largest of so many errors is their conformal 95 % quantile."""
COVERAGE = 0.95
WIDE = math.log(1.5)
"""Half width of log(measured / sum) without enough whole measurements."""
NARROWEST = 0.02
"""What one measurement repeats to: no interval is narrower."""
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

Row = Float64[np.ndarray, " traits"]
Rows = Float64[np.ndarray, "models traits"]
Errors = Float64[np.ndarray, " models"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One model's sum of blocks and its measured latency, seconds; `shares` of the sum by trait."""

    composed_s: float
    measured_s: float
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def log_ratio(self) -> float | None:
        """None for what teaches nothing: not positive, not finite."""
        both = (self.composed_s, self.measured_s)
        if not all(math.isfinite(value) and value > 0 for value in both):
            return None
        return math.log(self.measured_s / self.composed_s)


@dataclass(frozen=True, slots=True)
class Correction:
    """`log_bias` and `log_half_width` are those of a model whose traits nobody has seen."""

    log_bias: float = 0.0
    log_half_width: float = WIDE
    pairs: int = 0
    penalty: float = math.inf
    weights: Mapping[str, float] = field(default_factory=dict)
    covariance: Rows | None = None
    """Inverse of the penalised Gram matrix, columns 1 and then the traits of `weights`; None: no traits."""

    def of(self, shares: Mapping[str, float]) -> tuple[float, float]:
        """What to add to the log of a sum of blocks with these traits, and half of its 95 % interval."""
        if self.covariance is None:
            return self.log_bias, self.log_half_width
        bias = self.log_bias + sum(w * shares.get(trait, 0.0) for trait, w in self.weights.items())
        row = np.array([1.0, *(shares.get(trait, 0.0) for trait in self.weights)])
        unseen = sum(share**2 for trait, share in shares.items() if trait not in self.weights)
        leverage = float(row @ self.covariance @ row) + unseen / self.penalty
        return bias, max(NARROWEST, self.log_half_width * math.sqrt(1 + leverage))

    def described(self) -> dict[str, Any]:
        """As JSON, for what a prediction stores."""
        return {
            "log_bias": self.log_bias,
            "log_half_width": self.log_half_width,
            "pairs": self.pairs,
            "penalty": self.penalty if math.isfinite(self.penalty) else None,
        }


def fit_correction(pairs: Sequence[Pair]) -> Correction:
    """From models measured whole; those that are not positive and finite teach nothing."""
    known = [(pair, ratio) for pair in pairs if (ratio := pair.log_ratio) is not None]
    count = len(known)
    ratios = np.array([ratio for _, ratio in known])
    if count < ENOUGH_PAIRS:
        return Correction(float(ratios.sum()) / (count + 1), WIDE, count)  # shrunk towards no correction
    names = sorted({trait for pair, _ in known for trait in pair.shares})
    rows = np.array([[1.0, *(pair.shares.get(name, 0.0) for name in names)] for pair, _ in known])
    penalties = PENALTIES if names and count >= ENOUGH_FOR_TRAITS else ()
    fits = [_Ridge(rows[:, :0], ratios, math.inf), _Ridge(rows[:, :1], ratios, math.inf)]
    fits += [_Ridge(rows, ratios, penalty) for penalty in penalties]
    best = min(fits, key=lambda fit: float(np.mean(np.abs(fit.left_out))))
    if math.isinf(best.penalty):
        moved = len(best.weights)
        half = best.half_width() * math.sqrt(1 + moved / count)
        return Correction(float(best.weights.sum()), max(NARROWEST, half), count)
    return Correction(
        log_bias=float(best.weights[0]),
        log_half_width=best.half_width(),
        pairs=count,
        penalty=best.penalty,
        weights=dict(zip(names, best.weights[1:].tolist(), strict=True)),
        covariance=best.covariance,
    )


class _Ridge:
    """One fit: all columns but the first are penalised. One column leaves the mean, none leaves 0."""

    def __init__(self, rows: Rows, values: Errors, penalty: float) -> None:
        self.penalty = penalty
        weight = np.full(rows.shape[1], penalty)
        weight[:1] = 0.0
        self.covariance: Rows = np.linalg.inv(rows.T @ rows + np.diag(weight))
        self.weights: Row = self.covariance @ rows.T @ values
        leverage = np.einsum("ij,jk,ik->i", rows, self.covariance, rows)
        self.left_out: Errors = (values - rows @ self.weights) / (1 - leverage)
        """Error at each model of the fit to all the others."""
        self.relative: Errors = self.left_out / np.sqrt(1 + leverage / (1 - leverage))

    def half_width(self) -> float:
        """Half of the 95 % interval at a model of leverage 0."""
        count = len(self.relative)
        if count < ENOUGH_FOR_QUANTILES:
            return t_975(count - 1) * float(np.sqrt(np.mean(self.relative**2)))
        rank = math.ceil(COVERAGE * (count + 1))
        return float(np.sort(np.abs(self.relative))[min(rank, count) - 1])
