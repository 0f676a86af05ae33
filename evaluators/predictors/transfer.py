"""Latency on a new device from few measurements there and what is known of other devices.

    log t_new = a + b log t_old + error          b >= 0; the old device with the least leave-one-out error
                                                 from 30 measurements on, ridge of what that leaves

`t_old` is measured, or predicted by a predictor of the old device.

Source: the idea of starting from the most similar device: Feng et al. 2024 (LitePred, NSDI).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from space.errors import InvalidInputError

from .latency import matrix
from .regressors import Ridge, Vector, fit_ridge, huber_weights

ENOUGH = 3
ENOUGH_FOR_RESIDUALS = 30
PRIOR_SLOPE_WEIGHT = 1.0
"""The slope is shrunk to 1, the same ratio everywhere, as by so many samples at one deviation."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """A new device as a function of an old one."""

    source: str
    constant: float
    slope: float
    errors: Mapping[str, float]
    """Mean leave-one-out |log error| by old device."""
    columns: tuple[str, ...] = ()
    residual: Ridge | None = None

    def predict(self, old_seconds: Sequence[float], work: Sequence[Mapping[str, float]] = ()) -> Vector:
        """Seconds on the new device, from those on `source` and the work (needed when it has residuals)."""
        logs = self.constant + self.slope * np.log(np.array(old_seconds, dtype=np.float64))
        if self.residual is not None:
            logs = logs + self.residual.predict(matrix(work, self.columns))
        return np.exp(logs)


def transfer(
    seconds: Sequence[float],
    old_seconds: Mapping[str, Sequence[float]],
    work: Sequence[Mapping[str, float]] = (),
) -> Transferred:
    """From measured seconds of some architectures, and theirs on other devices.

    Raises:
        InvalidInputError: fewer than 3 samples, no old device, or lengths that differ.
    """
    if len(seconds) < ENOUGH or not old_seconds:
        raise InvalidInputError(
            f"{len(seconds)} measurements and {len(old_seconds)} known devices; a transfer needs "
            f"{ENOUGH} and 1 or more"
        )
    for name, values in old_seconds.items():
        if len(values) != len(seconds):
            raise InvalidInputError(
                f"device '{name}' has {len(values)} latencies, the new one {len(seconds)}; give one each"
            )
    new = np.log(np.array(seconds, dtype=np.float64))
    old = {name: np.log(np.array(values, dtype=np.float64)) for name, values in old_seconds.items()}
    errors = {name: _left_out_error(values, new) for name, values in old.items()}
    source = min(errors, key=lambda name: errors[name])
    constant, slope = _line(old[source], new)
    columns = tuple(sorted({name for row in work for name in row}))
    residual = None
    if len(new) >= ENOUGH_FOR_RESIDUALS and columns:
        residual = fit_ridge(matrix(work, columns), new - constant - slope * old[source])
    return Transferred(source, constant, slope, errors, columns, residual)


def _line(old: Vector, new: Vector) -> tuple[float, float]:
    """Constant and slope, robust; the slope is not negative."""
    rows = np.ones(len(new))
    constant, slope = 0.0, 1.0
    for _ in range(3):
        mean_old, mean_new = np.average(old, weights=rows), np.average(new, weights=rows)
        x, y = old - mean_old, new - mean_new
        prior = PRIOR_SLOPE_WEIGHT * float(np.average(x**2, weights=rows))
        slope = max(0.0, float((rows @ (x * y) + prior) / (rows @ x**2 + prior))) if prior > 0 else 1.0
        constant = float(mean_new - slope * mean_old)
        rows = huber_weights(new - constant - slope * old)
    return constant, slope


def _left_out_error(old: Vector, new: Vector) -> float:
    errors = []
    for index in range(len(new)):
        rest = np.arange(len(new)) != index
        constant, slope = _line(old[rest], new[rest])
        errors.append(abs(float(new[index] - constant - slope * old[index])))
    return sum(errors) / len(errors)
