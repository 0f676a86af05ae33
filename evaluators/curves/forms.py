"""The shapes a learning curve may have: loss(t) = E + A phi(t), with phi falling to 0 and E, A >= 0.

    power         u^(-a)                     0.02 <= a <= 2
    offset power  (u + u0)^(-a)
    log power     ln(1 + t)^(-a)             slower than any power
    exponential   exp(-k u^g)

u: steps over the last observed one. What makes phi nonlinear takes values of a grid, so that for each of them
E and A are a linear regression. Source: Viering & Loog 2023, arXiv:2103.10948 (which forms fit learning
curves).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EXPONENTS = np.geomspace(0.02, 2.0, 60)
OFFSETS = (0.01, 0.03, 0.1, 0.3, 1.0)
RATES = np.geomspace(0.2, 20.0, 48)
STRETCHES = (0.25, 0.35, 0.5, 0.7, 1.0)


@dataclass(frozen=True, slots=True)
class Form:
    """One family of curves. `basis(steps, unit)`: phi at the steps, a row for every shape of the grid."""

    num_parameters: int
    """Fitted numbers, E and A among them."""
    basis: Callable[[Floats, float], Floats]


def _power(steps: Floats, unit: float) -> Floats:
    return (steps / unit)[None, :] ** -EXPONENTS[:, None]


def _offset_power(steps: Floats, unit: float) -> Floats:
    shapes = product(EXPONENTS[::3], OFFSETS)
    return np.stack([(steps / unit + offset) ** -exponent for exponent, offset in shapes])


def _log_power(steps: Floats, unit: float) -> Floats:
    del unit
    return np.log1p(steps)[None, :] ** -(4 * EXPONENTS[:, None])


def _exponential(steps: Floats, unit: float) -> Floats:
    return np.stack(
        [np.exp(-rate * (steps / unit) ** stretch) for rate, stretch in product(RATES, STRETCHES)]
    )


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "power": Form(3, _power),
        "offset power": Form(4, _offset_power),
        "log power": Form(3, _log_power),
        "exponential": Form(4, _exponential),
    }
)
