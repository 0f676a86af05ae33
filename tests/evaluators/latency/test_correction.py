"""The correction: what it finds, what it leaves alone, leave-one-out in closed form, intervals that cover."""

import math
import random

import numpy as np
import pytest

from evaluators.latency import Correction, Pair, fit_correction
from evaluators.latency.correction import WIDE, _Ridge

KINDS = ("softmax", "window", "pool")


def pair(ratio: float, shares: dict[str, float] | None = None, composed_s: float = 1.0) -> Pair:
    return Pair(composed_s, composed_s * ratio, shares or {})


def drawn(count: int, noise: float, seed: int = 0) -> list[Pair]:
    """A window is 20 % slower in a model than alone, the others are as they are; 5 % common to all."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(count):
        weights = [rng.random() for _ in KINDS]
        shares = {kind: weight / sum(weights) for kind, weight in zip(KINDS, weights, strict=True)}
        pairs.append(pair(math.exp(0.05 + 0.2 * shares["window"] + rng.gauss(0, noise)), shares))
    return pairs


def test_fewer_than_three_pairs_keep_the_wide_interval_and_shrink_the_bias() -> None:
    assert fit_correction([]) == Correction(0.0, WIDE, 0)
    two = fit_correction([pair(2.0), pair(2.0)])
    assert two.log_bias == pytest.approx(math.log(2) * 2 / 3)
    assert two.of({"softmax": 1.0}) == (two.log_bias, WIDE)


def test_pairs_that_are_not_positive_and_finite_teach_nothing() -> None:
    good = [pair(1.1), pair(1.1, composed_s=2.0), pair(1.1, composed_s=3.0)]
    bad = [Pair(0.0, 1.0), Pair(1.0, math.inf), Pair(1.0, math.nan)]
    assert fit_correction([*good, *bad]) == fit_correction(good)


def test_traits_without_evidence_get_no_weight() -> None:
    shares = [{"softmax": share, "pool": 1 - share} for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    few = fit_correction([pair(0.8, one) for one in shares])
    assert few.weights == {}
    assert math.exp(few.of(shares[0])[0]) == pytest.approx(0.8)


@pytest.mark.parametrize("count", [12, 60])
def test_a_mixer_that_is_slower_in_a_model_is_found(count: int) -> None:
    correction = fit_correction(drawn(count, 0.005))
    for share in (0.1, 0.8):
        bias, _ = correction.of({"window": share, "pool": 1 - share})
        assert bias == pytest.approx(0.05 + 0.2 * share, abs=0.03)


def test_leave_one_out_errors_are_those_of_refitting() -> None:
    pairs = drawn(14, 0.05)
    rows = np.array([[1.0, *(one.shares[kind] for kind in KINDS)] for one in pairs])
    values = np.array([one.log_ratio or 0.0 for one in pairs])
    for columns, penalty in ((rows, 0.1), (rows[:, :1], math.inf), (rows[:, :0], math.inf)):
        fast = _Ridge(columns, values, penalty).left_out
        for index in range(len(pairs)):
            rest = np.arange(len(pairs)) != index
            refit = _Ridge(columns[rest], values[rest], penalty)
            assert fast[index] == pytest.approx(values[index] - columns[index] @ refit.weights)


def test_a_few_disturbed_models_move_nothing() -> None:
    """Most sums are right; two of nine models were slowed down while they were measured."""
    correction = fit_correction([pair(1.0 + 0.001 * (-1) ** i) for i in range(7)] + [pair(1.2), pair(1.3)])
    bias, half_width = correction.of({})
    assert bias == 0.0
    assert half_width > 0.1


def test_a_model_unlike_the_measured_ones_has_a_wider_interval() -> None:
    correction = fit_correction(drawn(30, 0.03))
    _, usual = correction.of(dict.fromkeys(KINDS, 1 / 3))
    _, extreme = correction.of({"pool": 1.0})
    _, unseen = correction.of({"mamba": 1.0})
    assert usual < extreme < unseen
    assert correction.described()["pairs"] == 30


@pytest.mark.parametrize("count", [9, 40])
def test_the_interval_covers_new_models(count: int) -> None:
    """Nominal 95 %; 90 % of 200 draws leaves room for chance."""
    covered = 0
    for seed in range(200):
        *known, new = drawn(count + 1, 0.05, seed)
        bias, half_width = fit_correction(known).of(new.shares)
        covered += abs((new.log_ratio or 0.0) - bias) <= half_width
    assert covered >= 180
