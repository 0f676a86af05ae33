"""Where a learning curve will be at a later step, with a 95 % interval.

Every form of `forms` is fitted; forms weigh exp(-BIC / 2). The value is their weighted mean. The interval is
a residual bootstrap: 200 curves made of a form's fit (forms by their weights) and its residuals, drawn anew
and widened for the fitted parameters, are fitted and continued with one form each, and noise is added at the
end.

A curve is what was seen at a constant learning rate: the caller leaves out warm-up. What the decay at the end
of a schedule gives on top is no part of it; `calibration` learns that from finished trainings.
Source: Domhan et al. 2015 (extrapolation of learning curves by weighted forms), IJCAI; Schwarz 1978 (BIC).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from space.errors import InvalidInputError

from .forms import FORMS, Floats, Form
from .regression import regress

MIN_POINTS = 6
MIN_COVERED = 0.1
"""Of the steps to the end that the points span."""
BOOTSTRAPS = 200
LEAST_WEIGHT = 0.01
"""Forms that count less are left out of the bootstrap, for speed."""
LEAST_RELATIVE_ERROR = 1e-4
"""Residuals below this share of the curve's range count as so large: an exact fit is no better than that."""


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """A loss nobody has measured."""

    value: float
    low: float
    high: float
    """Ends of the 95 % interval."""
    weights: Mapping[str, float]
    """How much each form counted."""
    points: int
    until: int
    """The step it is about."""


@dataclass(frozen=True, slots=True)
class _Fitted:
    fitted: Floats
    ahead: float
    bic: float


def may_extrapolate(curve: Sequence[tuple[int, float]], until: int) -> bool:
    """Enough points, over enough of the steps to `until`."""
    steps = [step for step, _ in curve]
    return len(set(steps)) >= MIN_POINTS and max(steps) - min(steps) >= MIN_COVERED * until


def extrapolate(
    curve: Sequence[tuple[int, float]], until: int, *, floor: float = 0.0, seed: int = 0
) -> Extrapolation:
    """The loss at step `until` from (step, loss) points. `floor`: what no model of the task can be below.

    Raises:
        InvalidInputError: too few points, or a loss or step that cannot be.
    """
    if not may_extrapolate(curve, until):
        raise InvalidInputError(
            f"{len(curve)} points do not tell the loss at step {until}; "
            f"at least {MIN_POINTS} over {MIN_COVERED:.0%} of the steps are needed"
        )
    steps, losses = (np.array(column, np.float64) for column in zip(*sorted(curve), strict=True))
    if not np.isfinite(losses).all() or steps[0] < 1 or losses.min() < floor:
        raise InvalidInputError(
            f"a curve from step {steps[0]:g} with losses from {losses.min():g} cannot be continued; "
            f"steps start at 1 and losses are finite and at least {floor:g}"
        )
    fits = {name: _fitted(form, steps, losses[None], until, floor)[0] for name, form in FORMS.items()}
    weights = dict(zip(fits, _weights([fit.bic for fit in fits.values()]), strict=True))
    value = sum(weight * fits[name].ahead for name, weight in weights.items())
    sample = _bootstrap(steps, losses, until, floor, fits, weights, np.random.default_rng(seed))
    low, high = np.quantile(sample, (0.025, 0.975))
    wider = _few_points(len(losses), weights)
    low, high = min(0.0, low - value) * wider + value, max(0.0, high - value) * wider + value
    return Extrapolation(float(value), max(floor, float(low)), float(high), weights, len(losses), until)


def _few_points(points: int, weights: Mapping[str, float]) -> float:
    """Student's quantile over the normal one: the error itself is estimated from few residuals."""
    fitted = sum(weight * FORMS[name].num_parameters for name, weight in weights.items())
    return float(scipy.stats.t.ppf(0.975, max(1.0, points - fitted)) / scipy.stats.norm.ppf(0.975))


def _fitted(form: Form, steps: Floats, curves: Floats, until: int, floor: float) -> list[_Fitted]:
    """The best shape of a form for every curve [curves, points], and where it leads."""
    unit = float(steps[-1])
    basis, ahead = form.basis(steps, unit), form.basis(np.array([float(until)]), unit)[:, 0]
    fits = regress(curves, basis, floor)
    best = fits.squares.argmin(1)
    rows = np.arange(len(curves))
    end, scale = fits.end[rows, best], fits.scale[rows, best]
    points = curves.shape[1]
    least = points * (LEAST_RELATIVE_ERROR * np.ptp(curves, axis=1)) ** 2 + 1e-300
    squares = np.maximum(fits.squares[rows, best], least)
    bic = points * np.log(squares / points) + form.num_parameters * math.log(points)
    fitted = end[:, None] + scale[:, None] * basis[best]
    leads = end + scale * ahead[best]
    return [_Fitted(fitted[row], float(leads[row]), float(bic[row])) for row in rows]


def _weights(bic: Sequence[float]) -> Floats:
    relative = np.exp(-0.5 * (np.array(bic) - min(bic)))
    shares: Floats = relative / relative.sum()
    return shares


def _bootstrap(
    steps: Floats,
    losses: Floats,
    until: int,
    floor: float,
    fits: Mapping[str, _Fitted],
    weights: Mapping[str, float],
    rng: np.random.Generator,
) -> Floats:
    """Losses at `until` that would not surprise."""
    points = len(losses)
    counts = rng.multinomial(BOOTSTRAPS, list(weights.values()))
    curves, pools = [], []
    for name, count in zip(fits, counts, strict=True):
        free = max(1, points - FORMS[name].num_parameters)
        residuals = (losses - fits[name].fitted) * math.sqrt(points / free)
        pool = np.concatenate([residuals, -residuals])  # a symmetric error; so few points show no skew
        curves.append(fits[name].fitted + rng.choice(pool, (count, points)))
        pools.append(np.broadcast_to(pool, (count, len(pool))))
    again, noise = np.concatenate(curves), np.concatenate(pools)
    counting = [form for name, form in FORMS.items() if weights[name] >= LEAST_WEIGHT]
    refits = [_fitted(form, steps, np.maximum(again, floor), until, floor) for form in counting]
    sample = []
    for row in range(len(again)):
        chances = _weights([fitted[row].bic for fitted in refits])
        chosen = refits[int(rng.choice(len(refits), p=chances))][row].ahead
        sample.append(chosen + float(rng.choice(noise[row])))
    foretold: Floats = np.maximum(np.array(sample), floor)
    return foretold
