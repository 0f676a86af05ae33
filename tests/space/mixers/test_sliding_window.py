"""The window: banded and masked form, window as wide as the context, counts."""

import pytest
import torch
from torch import Tensor

from space.choice import Surroundings
from space.mixers.sliding_window import (
    SlidingWindow,
    SlidingWindowConfig,
    band_bias,
    banded,
    sliding_window_reference,
)
from space.mixers.softmax import SoftmaxConfig
from space.positions.alibi import alibi_slopes


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("tokens", [1, 7, 8, 9, 30])
def test_banded_form_equals_the_masked_square(causal: bool, window: int, tokens: int) -> None:
    q = random(2, 4, tokens, 3)
    k, v = random(2, 2, tokens, 3, seed=1), random(2, 2, tokens, 3, seed=2)
    slopes = alibi_slopes(4)
    band = band_bias(window, causal=causal, slopes=slopes)
    fast = banded(q, k, v, band, (band.shape[1], band.shape[2] // band.shape[1]))
    slow = sliding_window_reference(q, k, v, window=window, causal=causal, slopes=slopes)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("causal", "window"), [(True, 20), (True, 50), (False, 38), (False, 60)])
def test_a_window_over_the_whole_context_is_softmax(causal: bool, window: int) -> None:
    around = Surroundings(d_model=8, context_length=20, num_layers=1, causal=causal, position="rope")
    full = SoftmaxConfig(num_heads=2, num_kv_heads=2).build(around).double()
    windowed = SlidingWindowConfig(num_heads=2, num_kv_heads=2, window=window).build(around).double()
    windowed.load_state_dict(full.state_dict())
    x = random(2, 20, 8)
    torch.testing.assert_close(windowed(x), full(x), rtol=1e-10, atol=1e-12)


def test_the_cheaper_form_is_built() -> None:
    around = Surroundings(d_model=8, context_length=64, num_layers=1, causal=True, position="none")
    narrow = SlidingWindowConfig(num_heads=2, num_kv_heads=2, window=16).build(around)
    wide = SlidingWindowConfig(num_heads=2, num_kv_heads=2, window=60).build(around)
    assert isinstance(narrow, SlidingWindow)
    assert isinstance(wide, SlidingWindow)
    assert narrow.bias is None
    assert wide.bias is not None


def test_causal_pairs_are_counted_one_by_one() -> None:
    for tokens in (1, 5, 12):
        for window in (1, 3, 12, 40):
            config = SlidingWindowConfig(num_heads=2, num_kv_heads=1, window=window)
            pairs = sum(0 <= i - j < window for i in range(tokens) for j in range(tokens))
            mixing = config.macs_causal(8, tokens) - tokens * config.params(8)
            assert mixing == 2 * 8 * pairs  # a score and a weighted value per head and pair


def test_the_state_holds_the_last_window() -> None:
    config = SlidingWindowConfig(num_heads=4, num_kv_heads=2, window=8)
    assert config.state_size(16, 3) == 2 * 2 * 4 * 3
    assert config.state_size(16, 100) == 2 * 2 * 4 * 8
