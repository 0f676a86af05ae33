"""A Gaussian process: a line plus a smooth deviation from it.

    k(a, b) = u^2 a.b / D + v^2 m(r) + s^2 [a = b],   m(r) = (1 + q + q^2 / 3) exp(-q),  q = sqrt(5) r
    r^2 = sum over columns of ((a_c - b_c) / l_c)^2        (Matern 5/2; D columns, scaled to deviation 1)

The hyperparameters maximise the likelihood times a lognormal prior on every l_c around sqrt(D) (Hvarfner et
al. 2024, arXiv:2402.02229), with the exact gradient; above `MAX_LENGTHS` columns all l_c are one. Source:
Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, algorithm 2.1 and equation 5.9.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its parts load at their first use, which a server's start has not

MAX_LENGTHS = 24
"""Columns that may each have a length of their own."""
MAX_ROWS = 160
"""Rows that the hyperparameters are fitted to: evenly spaced ones of more."""
LENGTH_SPREAD = 1.2
"""Deviation of the prior of a logarithmic length."""
_ROOT5 = np.sqrt(5.0)
_JITTER = 1e-8


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """Conditioned on rows; `parameters` are the logarithms of u, v, s and the lengths."""

    centre: np.ndarray
    scale: np.ndarray
    offset: float
    unit: float
    rows: np.ndarray
    parameters: np.ndarray
    factor: np.ndarray
    weights: np.ndarray

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (without the noise of a measurement) of every row."""
        scaled = (x - self.centre) / self.scale
        cross = kernel(scaled, self.rows, self.parameters)
        half = scipy.linalg.solve_triangular(self.factor, cross.T, lower=True)
        own = np.exp(2 * self.parameters[0]) * (scaled**2).mean(axis=1) + np.exp(2 * self.parameters[1])
        variance = np.maximum(own - (half**2).sum(axis=0), 1e-12)
        return self.offset + self.unit * (cross @ self.weights), self.unit * np.sqrt(variance)


def fit_gaussian_process(
    x: np.ndarray, y: np.ndarray, *, parameters: np.ndarray | None = None
) -> GaussianProcess:
    """The process conditioned on these rows; with `parameters` their likelihood is not maximised again."""
    centre, deviation = x.mean(axis=0), x.std(axis=0)
    scale = np.where(deviation > 1e-12, deviation, np.inf)
    offset, unit = float(y.mean()), float(y.std()) or 1.0
    rows, target = (x - centre) / scale, (y - offset) / unit
    if parameters is None:
        chosen = np.linspace(0, len(y) - 1, min(len(y), MAX_ROWS)).round().astype(int)
        parameters = _most_likely(rows[chosen], target[chosen])
    noisy = kernel(rows, rows, parameters)
    noisy[np.diag_indices_from(noisy)] += np.exp(2 * parameters[2]) + _JITTER
    factor = scipy.linalg.cholesky(noisy, lower=True)
    weights = scipy.linalg.cho_solve((factor, True), target)
    return GaussianProcess(centre, scale, offset, unit, rows, parameters, factor, weights)


def kernel(a: np.ndarray, b: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Covariances of two sets of scaled rows, without the noise."""
    linear, smooth, lengths = np.exp(2 * parameters[0]), np.exp(2 * parameters[1]), np.exp(parameters[3:])
    p, q = a / lengths, b / lengths
    squared = (p**2).sum(axis=1)[:, None] + (q**2).sum(axis=1)[None] - 2 * p @ q.T
    root = _ROOT5 * np.sqrt(np.maximum(squared, 0.0))
    line = linear * (a @ b.T) / a.shape[1]
    return np.asarray(line + smooth * (1 + root + root**2 / 3) * np.exp(-root))


def negative_log_posterior(
    parameters: np.ndarray, rows: np.ndarray, target: np.ndarray
) -> tuple[float, np.ndarray]:
    """Value and exact gradient by the logarithms of u, v, s and the lengths."""
    count, columns = rows.shape
    linear, smooth, noise = np.exp(2 * parameters[:3])
    lengths = np.exp(parameters[3:])
    scaled = rows / lengths
    squares = scaled.T[:, :, None] - scaled.T[:, None, :]
    squares **= 2
    root = _ROOT5 * np.sqrt(squares.sum(axis=0))
    decay = smooth * np.exp(-root)
    line = linear * (rows @ rows.T) / columns
    matern = (1 + root + root**2 / 3) * decay
    covariance = line + matern
    covariance[np.diag_indices(count)] += noise + _JITTER
    try:
        factor = scipy.linalg.cholesky(covariance, lower=True)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(parameters)
    weights = scipy.linalg.cho_solve((factor, True), target)
    # dL/dK = (K^-1 - w w') / 2; a kernel's share of the gradient is its elementwise product with dK
    pull = 0.5 * (scipy.linalg.cho_solve((factor, True), np.eye(count)) - np.outer(weights, weights))
    slope = pull * (5.0 / 3.0) * (1 + root) * decay
    by_column = np.tensordot(squares, slope, axes=([1, 2], [0, 1]))
    if len(lengths) == 1:
        by_column = by_column.sum(keepdims=True)
    gradient = np.concatenate(
        [[2 * (pull * line).sum(), 2 * (pull * matern).sum(), 2 * noise * np.trace(pull)], by_column]
    )
    value = 0.5 * target @ weights + np.log(np.diag(factor)).sum()
    away, prior_value, prior_slope = _prior(parameters, columns)
    return float(value + prior_value), gradient + prior_slope * away


def _prior(parameters: np.ndarray, columns: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Lognormal around u = v = 1, s = 0.1 and lengths of sqrt(D)."""
    centre = np.full_like(parameters, 0.5 * np.log(columns))
    centre[:3] = 0.0, 0.0, np.log(0.1)
    spread = np.full_like(parameters, LENGTH_SPREAD)
    spread[:3] = 1.5, 1.5, 2.0
    away = parameters - centre
    return away, float((0.5 * (away / spread) ** 2).sum()), 1 / spread**2


def _most_likely(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    columns = rows.shape[1]
    start = np.full(3 + (columns if columns <= MAX_LENGTHS else 1), 0.5 * np.log(columns))
    start[:3] = 0.0, 0.0, np.log(0.1)
    bounds = [(-5.0, 4.0), (-5.0, 4.0), (-7.0, 1.0)] + [(-2.0, 6.0)] * (len(start) - 3)
    found = scipy.optimize.minimize(
        negative_log_posterior, start, (rows, target), "L-BFGS-B", jac=True, bounds=bounds,
        options={"maxiter": 60},
    )  # fmt: skip
    return np.asarray(found.x)
