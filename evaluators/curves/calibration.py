"""What finished trainings say about extrapolated ones, per mixer family.

    d_j = final_j - extrapolated_j        corrected = extrapolated + mean d +- t_{n-1} s sqrt(1 + 1/n)

Convolutions learn fast and flatten early, attention the other way round, and the decay of the learning rate
gives each something more: so the differences of one family are used for it, once there are enough, else those
of all. The wider of this interval and the curve's own is kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import scipy

from .extrapolation import Extrapolation

MIN_FINISHED = 6


@dataclass(frozen=True, slots=True)
class Finished:
    """A training whose end is known, and what was extrapolated from its beginning at the same rung."""

    family: str
    extrapolated: float
    final: float


@dataclass(frozen=True, slots=True)
class Correction:
    """Of extrapolations of one family."""

    shift: float
    half: float
    """Half of the 95 % prediction interval around the shifted value."""
    trainings: int
    family: str | None
    """None: from all families together."""


def correction(finished: Sequence[Finished], family: str) -> Correction | None:
    """From the family's own trainings, or from all; None while there are too few of either."""
    own = [one for one in finished if one.family == family]
    if len(own) >= MIN_FINISHED:
        return _correction(own, family)
    return _correction(finished, None) if len(finished) >= MIN_FINISHED else None


def corrected(extrapolation: Extrapolation, by: Correction | None) -> Extrapolation:
    """The extrapolation as finished trainings would have it; unchanged without a correction."""
    if by is None:
        return extrapolation
    value = extrapolation.value + by.shift
    below = max(by.half, extrapolation.value - extrapolation.low)
    above = max(by.half, extrapolation.high - extrapolation.value)
    return replace(extrapolation, value=value, low=max(0.0, value - below), high=value + above)


def _correction(finished: Sequence[Finished], family: str | None) -> Correction:
    differences = [one.final - one.extrapolated for one in finished]
    n, mean = len(differences), math.fsum(differences) / len(differences)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in differences) / (n - 1))
    half = float(scipy.stats.t.ppf(0.975, n - 1)) * deviation * math.sqrt(1 + 1 / n)
    return Correction(mean, half, n, family)
