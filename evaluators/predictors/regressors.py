"""Regressions of log time on what an architecture computes, each robust to single disturbed measurements.

    additive    t = sum_k w_k work_k,  w >= 0                            least relative squares
    ridge       log t = c + w . z                                        z: columns, centred and scaled
    kernel      log t = other + K (K + s^2 I)^-1 residual                a Gaussian process of what it leaves

Work adds up: constant calls, arithmetic per part, bytes. An additive fit extrapolates where a fit of
logarithms bends, the latter takes what does not add up. Disturbed measurements weigh less: Huber's weights,
from the median absolute residual.

Source: additive, non-negative: Lawson and Hanson 1974, chapter 23; robust weights: Huber 1981; leave-one-out
errors of linear smoothers in closed form: Hastie et al., The Elements of Statistical Learning, section 7.10.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import scipy
from jaxtyping import Bool, Float64

Matrix = Float64[np.ndarray, "samples columns"]
Others = Float64[np.ndarray, "others columns"]
Between = Float64[np.ndarray, "samples others"]
Vector = Float64[np.ndarray, " samples"]
Weights = Float64[np.ndarray, " columns"]

PENALTIES = tuple(10.0**power for power in range(-3, 4))
"""Of ridge, times the number of samples; the one with the least leave-one-out error is taken."""
REWEIGHTINGS = 4
HUBER = 1.345
"""Residuals beyond so many standard deviations weigh less: 95 % as efficient as least squares without any."""
SHRINKAGE = 1e-3
"""Of additive weights: it settles what columns that move together cannot."""
SCALES = (0.5, 1.0, 2.0, 4.0)
"""Lengths of the kernel in units of the median distance between samples."""
NOISES = (0.03, 0.1, 0.3, 1.0)
"""Noise variance over signal variance."""


@runtime_checkable
class Regressor(Protocol):
    """Fitted: rows of work -> log seconds."""

    def predict(self, work: Matrix) -> Vector: ...


@dataclass(frozen=True, slots=True)
class Scaling:
    """Columns that are positive in every sample by logarithm, the others as they are; centred and scaled."""

    by_log: Float64[np.ndarray, " columns"]
    """1 where a logarithm is taken."""
    floor: Weights
    mean: Weights
    spread: Weights

    @classmethod
    def of(cls, work: Matrix) -> "Scaling":
        by_log = np.asarray((work > 0).all(axis=0))
        floor = np.where(by_log, work.min(axis=0) / 10, -math.inf)
        raw = _raw(work, by_log, floor)
        spread = raw.std(axis=0)
        return cls(by_log.astype(float), floor, raw.mean(axis=0), np.where(spread > 1e-9, spread, math.inf))

    def apply(self, work: Matrix) -> Matrix:
        return np.asarray((_raw(work, self.by_log > 0, self.floor) - self.mean) / self.spread)


@dataclass(frozen=True, slots=True)
class Additive:
    """Non-negative seconds per unit of work."""

    weights: Weights
    least_s: float
    """No sum is taken below it, so that its logarithm exists."""

    def predict(self, work: Matrix) -> Vector:
        return np.asarray(np.log(np.maximum(work @ self.weights, self.least_s)))


@dataclass(frozen=True, slots=True)
class Ridge:
    """A linear function of scaled columns."""

    scaling: Scaling
    weights: Weights
    constant: float

    def predict(self, work: Matrix) -> Vector:
        return np.asarray(self.scaling.apply(work) @ self.weights + self.constant)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A smooth correction of another regressor, 0 far from every sample."""

    below: Regressor
    scaling: Scaling
    samples: Matrix
    weights: Vector
    length: float

    def predict(self, work: Matrix) -> Vector:
        similar = _similar(self.scaling.apply(work), self.samples, self.length)
        return np.asarray(self.below.predict(work) + similar @ self.weights)


@dataclass(frozen=True, slots=True)
class Corrected:
    """Two regressors, the second of what the first leaves."""

    first: Regressor
    second: Regressor

    def predict(self, work: Matrix) -> Vector:
        return np.asarray(self.first.predict(work) + self.second.predict(work))


def fit_additive(work: Matrix, seconds: Vector) -> Additive:
    """Least squares of the relative error, with Huber's weights."""
    largest = np.abs(work).max(axis=0)
    columns = work / np.where(largest > 0, largest, 1.0) / seconds[:, None]
    shrinkage = math.sqrt(SHRINKAGE * len(seconds)) * np.eye(work.shape[1]) / np.median(seconds)
    rows = np.ones(len(seconds))
    scaled = np.zeros(work.shape[1])
    for _ in range(REWEIGHTINGS):
        root = np.sqrt(rows)
        left = np.vstack([columns * root[:, None], shrinkage])
        scaled, _ = scipy.optimize.nnls(left, np.concatenate([root, np.zeros(len(shrinkage))]))
        rows = huber_weights(columns @ scaled - 1.0)
    return Additive(scaled / np.where(largest > 0, largest, 1.0), float(seconds.min()) / 10)


def fit_ridge(work: Matrix, logs: Vector) -> Ridge:
    """The penalty with the least leave-one-out error, with Huber's weights."""
    scaling = Scaling.of(work)
    columns = scaling.apply(work)
    rows = np.ones(len(logs))
    weights, constant = np.zeros(work.shape[1]), float(np.median(logs))
    for _ in range(REWEIGHTINGS):
        weights, constant = _best_ridge(columns, logs, rows)
        rows = huber_weights(logs - columns @ weights - constant)
    return Ridge(scaling, weights, constant)


def fit_kernel(work: Matrix, logs: Vector, below: Regressor) -> Kernel:
    """Length and noise with the least leave-one-out error of the residuals of `below`."""
    scaling = Scaling.of(work)
    columns = scaling.apply(work)
    residuals = logs - below.predict(work)
    limit = HUBER * _deviation(residuals) * 2
    clipped = np.clip(residuals, -limit, limit)
    distances = np.sqrt(np.maximum(_squared(columns, columns), 0))
    median = float(np.median(distances[distances > 0])) if (distances > 0).any() else 1.0
    best: tuple[float, float, Vector] | None = None
    for length in (scale * median for scale in SCALES):
        similar = np.exp(-0.5 * (distances / length) ** 2)
        for noise in NOISES:
            inverse = np.linalg.inv(similar + noise * np.eye(len(logs)))
            weights = inverse @ clipped
            error = float(np.mean(np.abs(weights / np.diag(inverse))))
            if best is None or error < best[0]:
                best = (error, length, weights)
    assert best is not None
    return Kernel(below, scaling, columns, best[2], best[1])


def huber_weights(residuals: Vector) -> Vector:
    """1 within some deviations, falling with the distance beyond."""
    limit = HUBER * max(_deviation(residuals), 1e-9)
    return np.asarray(np.minimum(1.0, limit / np.maximum(np.abs(residuals), 1e-12)))


def _deviation(residuals: Vector) -> float:
    return 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))


def _best_ridge(columns: Matrix, logs: Vector, rows: Vector) -> tuple[Weights, float]:
    """Weighted; the constant is not penalised."""
    total = rows.sum()
    mean_columns, mean_log = rows @ columns / total, float(rows @ logs / total)
    root = np.sqrt(rows)[:, None]
    left, singular, right = np.linalg.svd((columns - mean_columns) * root, full_matrices=False)
    target = (logs - mean_log) * root[:, 0]
    projected = left.T @ target
    best: tuple[float, Weights] | None = None
    for penalty in PENALTIES:
        shrunk = singular**2 / (singular**2 + penalty * len(logs))
        leverage = np.minimum((left**2) @ shrunk + rows / total, 0.999)
        errors = (target - left @ (shrunk * projected)) / (1 - leverage)
        score = float(np.mean(errors**2))
        if best is None or score < best[0]:
            usable = np.where(singular > 1e-12, singular, 1.0)
            best = (score, right.T @ (shrunk * projected / usable))
    assert best is not None
    return best[1], mean_log - float(mean_columns @ best[1])


def _raw(work: Matrix, by_log: Bool[np.ndarray, " columns"], floor: Weights) -> Matrix:
    positive = np.maximum(work, np.where(by_log, floor, 1.0))
    return np.where(by_log, np.log(np.where(by_log, positive, 1.0)), work)


def _similar(a: Matrix, b: Others, length: float) -> Between:
    return np.asarray(np.exp(-0.5 * np.maximum(_squared(a, b), 0) / length**2))


def _squared(a: Matrix, b: Others) -> Between:
    return np.asarray((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T)
