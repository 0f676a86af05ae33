import math

import numpy as np
import pytest

from evaluators.curves import FORMS, extrapolate, may_extrapolate
from space.errors import InvalidInputError

Curve = list[tuple[int, float]]
STEPS = 1000


def _curve(kind: str, rng: np.random.Generator, *, seen: float, noise: float) -> tuple[Curve, float]:
    """Points up to a share of the steps, and the loss at the end."""
    steps = np.unique(np.round(np.geomspace(0.04 * STEPS, seen * STEPS, 9)).astype(int))
    end, scale = rng.uniform(1.5, 2.5), rng.uniform(1, 3)
    exponent, rate, stretch = rng.uniform(0.2, 1), rng.uniform(2, 8), rng.uniform(0.3, 0.8)

    def loss(step: float) -> float:
        shape = (
            (step / (0.04 * STEPS)) ** -exponent
            if kind == "power"
            else math.exp(-rate * (step / STEPS) ** stretch)
        )
        return float(end + scale * shape + noise * rng.normal())

    return [(int(step), loss(step)) for step in steps], loss(STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["power", "exponential"])
def test_the_interval_covers_the_end_as_often_as_it_says(kind: str) -> None:
    """95 % promised; at least 90 % of 30 fixed random curves, whose form is not told."""
    rng = np.random.default_rng(0)
    covered, errors, idle = [], [], []
    for index in range(30):
        curve, end = _curve(kind, rng, seen=(0.25, 0.5)[index % 2], noise=0.01)
        found = extrapolate(curve, STEPS)
        covered.append(found.low <= end <= found.high)
        errors.append(abs(found.value - end))
        idle.append(abs(curve[-1][1] - end))
    assert np.mean(covered) >= 0.9
    assert np.mean(errors) < 0.5 * np.mean(idle)  # of taking the last point for the end


@pytest.mark.parametrize("exponent", [0.1, 0.5, 1.5])
def test_an_exact_power_law_is_continued_closely(exponent: float) -> None:
    curve = [(step, 2 + 3 * step**-exponent) for step in (40, 60, 90, 130, 190, 280)]
    found = extrapolate(curve, STEPS)
    end = 2 + 3 * STEPS**-exponent
    # exponents lie on a grid: the error is a small part of what is still to come
    assert found.value == pytest.approx(end, abs=max(1e-3, 0.05 * (curve[-1][1] - end)))
    assert found.low <= found.value <= found.high


def test_the_answer_is_the_same_every_time_and_in_any_order() -> None:
    curve, _ = _curve("power", np.random.default_rng(3), seen=0.4, noise=0.02)
    assert extrapolate(curve, STEPS) == extrapolate(curve[::-1], STEPS)


def test_no_loss_below_the_floor_is_foretold() -> None:
    curve = [(step, 2.0 - step / 300) for step in (50, 80, 120, 180, 240, 300)]  # straight down
    found = extrapolate(curve, STEPS, floor=0.7)
    assert found.low >= 0.7
    assert found.value >= 0.7


def test_weights_of_forms_add_up_and_a_flat_curve_stays_flat() -> None:
    found = extrapolate([(step, 1.5) for step in (50, 80, 120, 180, 240, 300)], STEPS)
    assert math.fsum(found.weights.values()) == pytest.approx(1)
    assert set(found.weights) == set(FORMS)
    assert (found.low, found.value, found.high) == pytest.approx((1.5, 1.5, 1.5), abs=1e-3)


@pytest.mark.parametrize(
    ("curve", "told"),
    [
        ([(step, 1.0) for step in (50, 80, 120, 180, 240)], "5 points do not tell the loss at step 1000"),
        ([(step, 1.0) for step in (1, 2, 3, 4, 5, 6)], "at least 6 over 10% of the steps"),
        ([(step, math.nan) for step in (50, 80, 120, 180, 240, 300)], "cannot be continued"),
        ([(step, -1.0) for step in (50, 80, 120, 180, 240, 300)], "losses are finite and at least 0"),
    ],
)
def test_what_cannot_be_continued_is_refused(curve: Curve, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        extrapolate(curve, STEPS)


def test_six_points_over_a_tenth_are_enough() -> None:
    assert may_extrapolate([(step, 1.0) for step in (50, 70, 90, 110, 130, 150)], STEPS)
    assert not may_extrapolate([(step, 1.0) for step in (50, 70, 90, 110, 130, 140)], STEPS)
