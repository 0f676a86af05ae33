"""Composition: exact sums, what is missing, traits of blocks, and the correction applied."""

import math
from collections.abc import Callable

import pytest

from evaluators.latency import (
    Correction,
    Target,
    blocks_of,
    composition,
    fit_correction,
    missing_blocks,
    predict_latency,
)
from space.architecture import Architecture
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
