"""Composition: exact sums, what is missing, traits of blocks, and the correction applied."""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

import pytest

from evaluators.latency import (
    Correction,
    Pair,
    Target,
    blocks_of,
    composition,
    fit_correction,
    missing_blocks,
    predict_latency,
)
from space.architecture import Architecture
from space.costs import costs
from space.errors import UnsupportedError

Factory = Callable[..., Architecture]


def timed(architecture: Architecture, seconds: float = 0.001) -> dict[str, float]:
    return {block.id: seconds for block in blocks_of(architecture, Target())}


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


def test_shares_are_fractions_of_the_summed_time(make: Factory) -> None:
    """Embedding, softmax, feed-forward, window, feed-forward, head: 1 ms each."""
    architecture = make(number_format="int8_dynamic")
    shares = composition(architecture, Target(), timed(architecture)).shares
    for trait in ("embedding", "head", "mixer softmax", "mixer softmax with rope", "mixer sliding_window"):
        assert shares[trait] == pytest.approx(1 / 6), trait
    assert shares["feed_forward glu"] == shares["feed_forward int8_dynamic"] == pytest.approx(1 / 3)
    assert shares["norm rmsnorm"] == pytest.approx(4 / 6)
    assert shares["blocks"] == pytest.approx(6e-5 / 6e-3)
    assert shares["weights"] == pytest.approx(costs(architecture).weights_bytes / 25e9 / 6e-3)


def test_weights_that_come_from_afar_are_learned(make: Factory) -> None:
    """The same blocks, timed from the cache; whole, every byte of the weights costs 40 ps more."""
    pairs = []
    for d_model in (32, 48, 64, 80, 96, 112, 128):
        for layers in (1, 2, 4):
            architecture = make(num_layers=layers, d_model=d_model)
            composed = composition(architecture, Target(), timed(architecture, 2e-5))
            pairs.append(composed.pair(composed.total_s + composed.weights_bytes / 25e9))
    blind = [
        Pair(one.composed_s, one.measured_s, {t: s for t, s in one.shares.items() if t != "weights"})
        for one in pairs
    ]
    assert mean_error(pairs) < 0.03 < 0.1 < mean_error(blind)


def mean_error(pairs: Sequence[Pair]) -> float:
    """Of the log of every fourth model, from a correction fitted to the others."""
    left = pairs[::4]
    correction = fit_correction([one for one in pairs if one not in left])
    errors = [math.log(one.measured_s / one.composed_s) - correction.of(one.shares)[0] for one in left]
    return fmean(map(abs, errors))


def test_a_correction_moves_the_value_and_gives_its_interval(make: Factory) -> None:
    architecture = make()
    composed = composition(architecture, Target(), timed(architecture))
    correction = fit_correction([composed.pair(0.8 * composed.total_s)] * 4)
    predicted = predict_latency(architecture, Target(), timed(architecture), correction)
    assert predicted.value == pytest.approx(0.8 * 0.006)
    assert predicted.detail["log_bias"] == pytest.approx(math.log(0.8))
    assert predicted.detail["correction"]["pairs"] == 4
    assert predicted.spread is not None
    assert predicted.value is not None
    assert 0.02 < predicted.spread / predicted.value < 0.15
