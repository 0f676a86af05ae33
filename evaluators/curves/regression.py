"""The regression inside a fit: loss = E + A phi for many curves and many shapes of phi at once, robustly.

    minimise sum_i w_i (loss_i - E - A phi_i)^2  over  E >= floor, A >= 0,  w_i = min(1, c / |r_i|),  c =
    1.345 sigma

sigma: 1.483 times the median absolute residual of the fit before. Three rounds of new weights stand for
Huber's loss. Deliberately different from a regression of log(loss - E): there the residuals of any curve
shrink as E falls, and the best E is the lowest allowed.
Source: Huber 1964, doi:10.1214/aoms/1177703732; variable projection, Golub & Pereyra 1973,
doi:10.1137/0710036.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDS = 3
HUBER = 1.345
TO_DEVIATION = 1.4826


@dataclass(frozen=True, slots=True)
class Fits:
    """Arrays [curves, shapes]."""

    end: Floats
    """E"""
    scale: Floats
    """A"""
    squares: Floats
    """Weighted sum of squared residuals."""


def regress(losses: Floats, basis: Floats, floor: float) -> Fits:
    """Fits of every curve [curves, points] with every shape [shapes, points]."""
    weights = np.ones((len(losses), len(basis), losses.shape[1]))
    fits = _weighted(losses, basis, weights, floor)
    for _ in range(ROUNDS):
        residuals = np.abs(losses[:, None] - fits.end[..., None] - fits.scale[..., None] * basis)
        sigma = TO_DEVIATION * np.median(residuals, axis=-1, keepdims=True)
        weights = np.minimum(1.0, HUBER * sigma / np.maximum(residuals, 1e-300))
        weights = np.where(sigma > 0, weights, 1.0)
        fits = _weighted(losses, basis, weights, floor)
    return fits


def _weighted(losses: Floats, basis: Floats, weights: Floats, floor: float) -> Fits:
    y, x = losses[:, None], basis[None]
    total = weights.sum(-1)
    mean_x, mean_y = (weights * x).sum(-1) / total, (weights * y).sum(-1) / total
    spread = (weights * (x - mean_x[..., None]) ** 2).sum(-1)
    joint = (weights * (x - mean_x[..., None]) * (y - mean_y[..., None])).sum(-1)
    scale = np.maximum(joint / np.maximum(spread, 1e-300), 0.0)
    end = mean_y - scale * mean_x
    low = end < floor  # the best point lies outside: the best on the border has E = floor
    bound = np.maximum((weights * x * (y - floor)).sum(-1) / (weights * x**2).sum(-1), 0.0)
    scale, end = np.where(low, bound, scale), np.where(low, floor, end)
    squares = (weights * (y - end[..., None] - scale[..., None] * x) ** 2).sum(-1)
    return Fits(end, scale, squares)
