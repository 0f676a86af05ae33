"""Composition and its correction: exact sums, fitted bias, intervals that cover."""

import math
import random
from collections.abc import Callable

import pytest

from evaluators.latency import Correction, Target, blocks_of, fit_correction, missing_blocks, predict_latency
from evaluators.latency.prediction import WIDE
from space.architecture import Architecture
from space.errors import UnsupportedError

Factory = Callable[..., Architecture]


def test_the_composition_is_the_sum_of_the_blocks(make: Factory) -> None:
    architecture = make(num_layers=4)
    known = {block.id: 0.001 * (i + 1) for i, block in enumerate(blocks_of(architecture, Target()))}
    expected = sum(known[block.id] for block in blocks_of(architecture, Target()))
    predicted = predict_latency(architecture, Target(), known, Correction())
    assert predicted.kind == "predicted"
    assert predicted.value == pytest.approx(expected)
    assert predicted.detail["composed_s"] == pytest.approx(expected)


def test_a_missing_block_is_named_and_refused(make: Factory) -> None:
    architecture = make()
    known = {block.id: 0.001 for block in blocks_of(architecture, Target())[:-1]}
    (missing,) = missing_blocks(architecture, Target(), known)
    assert missing.part == "head"
    with pytest.raises(UnsupportedError, match="1 blocks have no measured latency, first head"):
        predict_latency(architecture, Target(), known, Correction())


def test_a_constant_factor_is_found_and_applied(make: Factory) -> None:
    correction = fit_correction([(s, 0.8 * s) for s in (0.001, 0.002, 0.004, 0.01)])
    assert math.exp(correction.log_bias) == pytest.approx(0.8)
    architecture = make()
    known = {block.id: 0.001 for block in blocks_of(architecture, Target())}
    predicted = predict_latency(architecture, Target(), known, correction)
    assert predicted.value == pytest.approx(0.8 * 0.006)
    assert predicted.spread is not None
    assert predicted.value is not None
    assert 0.02 < predicted.spread / predicted.value < 0.15


def test_fewer_than_three_pairs_keep_the_wide_interval_and_shrink_the_bias() -> None:
    assert fit_correction([]) == Correction(0.0, WIDE, 0)
    two = fit_correction([(1.0, 2.0), (1.0, 2.0)])
    assert two.log_bias == pytest.approx(math.log(2) * 2 / 3)
    assert two.log_half_width == WIDE


def test_pairs_that_are_not_positive_and_finite_teach_nothing() -> None:
    pairs = [(1.0, 1.1), (0.0, 1.0), (1.0, math.inf), (1.0, math.nan), (2.0, 2.2), (3.0, 3.3)]
    assert fit_correction(pairs) == fit_correction([(1.0, 1.1), (2.0, 2.2), (3.0, 3.3)])


def test_the_interval_covers_new_models() -> None:
    """Nominal 95 %; 90 % of 400 draws leaves room for chance."""
    rng = random.Random(0)
    covered = 0
    for _ in range(400):
        ratios = [rng.gauss(-0.1, 0.05) for _ in range(9)]
        correction = fit_correction([(1.0, math.exp(ratio)) for ratio in ratios[:-1]])
        covered += abs(ratios[-1] - correction.log_bias) <= correction.log_half_width
    assert covered >= 360
