"""Ridge regression whose penalty is the best of a grid by leave-one-out error.

    w = argmin |y - Xw|^2 + p |w|^2        X, y: columns with mean 0 and standard deviation 1
    leave-one-out residual of row i = (y_i - yhat_i) / (1 - h_i),   h: diagonal of X (X'X + pI)^-1 X'

The standard deviation of a prediction is that of the Bayesian line with the same penalty. Source: Hoerl and
Kennard 1970, doi:10.1080/00401706.1970.10488634; Allen 1974, doi:10.1080/00401706.1974.10489157 (PRESS).
"""

from dataclasses import dataclass

import numpy as np

PENALTIES = np.logspace(-3, 4, 22)


@dataclass(frozen=True, slots=True)
class Ridge:
    """A fitted line."""

    centre: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    offset: float
    directions: np.ndarray
    """Right singular vectors of the scaled rows, one per row."""
    variances: np.ndarray
    """Of the weights along the directions, in units of the noise."""
    penalty: float
    noise: float
    """Standard deviation of the leave-one-out residuals."""
    widest: float
    """Deviation of the fitted values' targets: no prediction is less sure than knowing nothing."""

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every row."""
        scaled = (x - self.centre) / self.scale
        along = scaled @ self.directions.T
        spread = (along**2 * self.variances).sum(axis=1)
        outside = np.maximum((scaled**2).sum(axis=1) - (along**2).sum(axis=1), 0.0) / self.penalty
        deviation = self.noise * np.sqrt(1.0 + spread + outside)
        return scaled @ self.weights + self.offset, np.minimum(deviation, max(self.widest, self.noise))


def fit_ridge(x: np.ndarray, y: np.ndarray) -> Ridge:
    """The line through these rows; columns that never change are given no weight."""
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-12, scale, np.inf)
    offset = float(y.mean())
    left, singular, directions = np.linalg.svd((x - centre) / scale, full_matrices=False)
    along = left.T @ (y - offset)
    best: tuple[float, float] | None = None
    for penalty in PENALTIES:
        shrink = singular**2 / (singular**2 + penalty)
        leverage = (left**2 * shrink).sum(axis=1) + 1.0 / len(y)
        residual = (y - offset - left @ (shrink * along)) / np.maximum(1.0 - leverage, 1e-6)
        error = float(np.mean(residual**2))
        if best is None or error < best[0]:
            best = (error, float(penalty))
    assert best is not None
    error, penalty = best
    weights = directions.T @ (singular / (singular**2 + penalty) * along)
    variances = 1.0 / (singular**2 + penalty)
    noise, widest = float(np.sqrt(error)), float(y.std())
    return Ridge(centre, scale, weights, offset, directions, variances, penalty, noise, widest)


def leave_one_out_by_definition(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Residual of every row under the line through all the others, with the columns' scale of all rows."""
    scale = np.where(x.std(axis=0) > 1e-12, x.std(axis=0), np.inf)
    scaled = (x - x.mean(axis=0)) / scale
    residuals = []
    for index in range(len(y)):
        rest = np.delete(np.arange(len(y)), index)
        design = np.column_stack([np.ones(len(rest)), scaled[rest]])
        shrink = penalty * np.eye(design.shape[1])
        shrink[0, 0] = 0.0
        solved = np.linalg.solve(design.T @ design + shrink, design.T @ y[rest])
        residuals.append(y[index] - solved[0] - scaled[index] @ solved[1:])
    return np.array(residuals)
