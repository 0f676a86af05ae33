"""Latency on a device from some tens of measurements there.

Several regressions are fitted, and the one with the least error in cross-validation inside the given samples
is used: additive work, ridge, ridge of what additive work leaves, and from 60 samples on a Gaussian process
of what the best of them leaves. Intervals are CV+ ones: quantiles of (prediction without a fold) +- (errors
of that fold).

Source: Barber et al. 2021, arXiv:1905.02928, section 3 (CV+).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from space.errors import InvalidInputError

from .regressors import (
    Corrected,
    Matrix,
    Regressor,
    Vector,
    fit_additive,
    fit_kernel,
    fit_ridge,
)

ENOUGH = 5
ENOUGH_FOR_KERNEL = 60
FOLDS = 5
LEAVE_ONE_OUT = 15
"""Up to so many samples every fold is one of them."""
COVERAGE = 0.95
CONSTANT = "constant"
"""The column of what every call costs."""
LIMIT = 1.0
"""An error in log time counts at most so much when methods are compared: one disturbed sample does not
decide."""

Folds = Int64[np.ndarray, " samples"]
Fit = Callable[[Matrix, Vector], Regressor]


@dataclass(frozen=True, slots=True)
class LatencyPredictor:
    """Fitted to one device. `columns`: names of the work, in order; `method`: the regression in use."""

    columns: tuple[str, ...]
    method: str
    errors: Mapping[str, float]
    """Mean |log error| in cross-validation by method."""
    regressor: Regressor
    folds: tuple[Regressor, ...]
    """Fitted without one fold each."""
    fold_of: tuple[int, ...]
    residuals: Vector
    """|log error| of every sample by the regressor that did not see it."""

    def predict(self, work: Sequence[Mapping[str, float]]) -> Vector:
        """Seconds."""
        return np.asarray(np.exp(self.regressor.predict(matrix(work, self.columns))))

    def intervals(self, work: Sequence[Mapping[str, float]]) -> tuple[Vector, Vector]:
        """Ends of the 95 % intervals, seconds."""
        rows = matrix(work, self.columns)
        without = np.array([fold.predict(rows) for fold in self.folds])[list(self.fold_of)]
        count = len(self.residuals)
        rank = min(count, math.ceil(COVERAGE * (count + 1)))
        low = np.sort(without - self.residuals[:, None], axis=0)[count - rank]
        high = np.sort(without + self.residuals[:, None], axis=0)[rank - 1]
        return np.exp(low), np.exp(high)


def fit_latency(work: Sequence[Mapping[str, float]], seconds: Sequence[float]) -> LatencyPredictor:
    """From the work of some architectures (name -> amount, see `work`) and their measured seconds.

    Raises:
        InvalidInputError: fewer than 5 samples, lengths that differ, or a time that is not positive.
    """
    if len(work) != len(seconds) or len(seconds) < ENOUGH:
        raise InvalidInputError(
            f"{len(work)} architectures with {len(seconds)} latencies; a predictor needs one each, "
            f"and {ENOUGH} or more"
        )
    for value in seconds:
        if not (math.isfinite(value) and value > 0):
            raise InvalidInputError(f"latency {value} s is not positive and finite; leave that sample out")
    columns = (CONSTANT, *sorted({name for row in work for name in row} - {CONSTANT}))
    rows, times = matrix(work, columns), np.array(seconds, dtype=np.float64)
    folds = _folds(len(times))
    tried = {name: _crossed(fit, rows, times, folds) for name, fit in METHODS.items()}
    best = min(METHODS, key=lambda name: _error(tried[name][1]))
    if len(times) >= ENOUGH_FOR_KERNEL:
        name = f"{best}+kernel"
        tried[name] = _crossed(with_kernel(METHODS[best]), rows, times, folds)
        best = min((best, name), key=lambda method: _error(tried[method][1]))
    fitted, residuals = tried[best]
    fit = METHODS[best] if best in METHODS else with_kernel(METHODS[best.removesuffix("+kernel")])
    return LatencyPredictor(
        columns=columns,
        method=best,
        errors={name: _error(errors) for name, (_, errors) in tried.items()},
        regressor=fit(rows, times),
        folds=fitted,
        fold_of=tuple(int(fold) for fold in folds),
        residuals=np.abs(residuals),
    )


def matrix(work: Sequence[Mapping[str, float]], columns: Sequence[str]) -> Matrix:
    """Rows of amounts; what a row does not name is 0, but for the constant, which every row has."""
    rows = [[float(row.get(name, 1.0 if name == CONSTANT else 0.0)) for name in columns] for row in work]
    return np.array(rows, dtype=np.float64).reshape(len(work), len(columns))


def ridge(rows: Matrix, seconds: Vector) -> Regressor:
    return fit_ridge(rows, np.log(seconds))


def additive_and_ridge(rows: Matrix, seconds: Vector) -> Regressor:
    """Ridge of what additive work leaves."""
    first = fit_additive(rows, seconds)
    return Corrected(first, fit_ridge(rows, np.log(seconds) - first.predict(rows)))


def with_kernel(fit: Fit) -> Fit:
    """A Gaussian process of what the fit leaves."""
    return lambda rows, seconds: fit_kernel(rows, np.log(seconds), fit(rows, seconds))


METHODS: Mapping[str, Fit] = {
    "additive": fit_additive,
    "ridge": ridge,
    "additive+ridge": additive_and_ridge,
}


def _folds(count: int) -> Folds:
    """Fold of every sample, as balanced as can be, always the same for a count."""
    size = count if count <= LEAVE_ONE_OUT else FOLDS
    return np.random.default_rng(0).permutation(np.arange(count) % size)


def _crossed(fit: Fit, rows: Matrix, seconds: Vector, folds: Folds) -> tuple[tuple[Regressor, ...], Vector]:
    """A regressor without every fold, and the log error of every sample by the one that did not see it."""
    errors = np.empty(len(seconds))
    fitted = []
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        regressor = fit(rows[~out], seconds[~out])
        errors[out] = np.log(seconds[out]) - regressor.predict(rows[out])
        fitted.append(regressor)
    return tuple(fitted), errors


def _error(errors: Vector) -> float:
    return float(np.mean(np.minimum(np.abs(errors), LIMIT)))
