"""The window: banded and masked form, canonical form, counts, decoding."""

from typing import Any

import pytest
import torch
from torch import Tensor

from space.choice import Surroundings
from space.kernels.attention import ScoreBias
from space.mixers.sliding_window import (
    SlidingWindow,
    SlidingWindowConfig,
    band_bias,
    banded,
    blocks_of,
    sliding_window_reference,
)
from space.mixers.softmax import SoftmaxConfig
from space.mixing.attention import AttentionConfig
from space.mixing.attention_parts import Clip
from space.positions import POSITIONS
from space.positions.alibi import alibi_slopes

FLAGS: list[dict[str, Any]] = [
    {},
    {"clipped_softmax": 4, "qk_norm": True, "gated_attention": "per_token", "qkv_dconv": 3, "score": "wma"},
]


def around(*, causal: bool, context: int = 20, position: str = "none", d_model: int = 8) -> Surroundings:
    return Surroundings(
        d_model=d_model, context_length=context, num_layers=1, causal=causal, position=POSITIONS[position]()
    )


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("tokens", [1, 7, 8, 9, 30])
def test_banded_form_equals_the_masked_square(causal: bool, window: int, tokens: int) -> None:
    q = random(2, 4, tokens, 3)
    k, v = random(2, 2, tokens, 3, seed=1), random(2, 2, tokens, 3, seed=2)
    at = around(causal=causal, context=30, position="alibi")
    blocks = blocks_of(window, causal=causal)
    fast = banded(q, k, v, band_bias(ScoreBias(at, 4, window=window), blocks), blocks)
    behind = torch.arange(tokens)[:, None] - torch.arange(tokens)[None, :]
    bias = -alibi_slopes(4)[:, None, None] * behind.abs()
    slow = sliding_window_reference(q, k, v, window=window, causal=causal, bias=bias)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("causal", "window"), [(True, 20), (True, 50), (False, 38), (False, 60)])
@pytest.mark.parametrize("flags", FLAGS, ids=["plain", "every_flag"])
@pytest.mark.parametrize("position", ["rope", "t5_bias"])
def test_a_window_over_the_whole_context_is_softmax(
    causal: bool, window: int, flags: dict[str, Any], position: str
) -> None:
    at = around(causal=causal, position=position)
    config = SlidingWindowConfig(num_heads=2, num_kv_heads=1, window=window, **flags)
    full = config.canonical(at)
    assert full == SoftmaxConfig(num_heads=2, num_kv_heads=1, **flags)
    softmax = full.build(at).double()
    windowed = config.build(around(causal=causal, position=position)).double()
    windowed.load_state_dict(softmax.state_dict())
    for module in (softmax, windowed):
        for child in module.modules():
            if isinstance(child, Clip):
                child.set_progress(1.0)
    x = random(2, 20, 8)
    torch.testing.assert_close(windowed(x), softmax(x), rtol=1e-10, atol=1e-12)


def test_windows_of_8_and_9_tokens_are_one_function_both_ways_and_two_in_causal_models() -> None:
    even, odd = (SlidingWindowConfig(num_heads=2, num_kv_heads=2, window=w) for w in (8, 9))
    free, causal = around(causal=False), around(causal=True)
    assert even.canonical(free) == odd.canonical(free) == even
    assert even.canonical(causal) != odd.canonical(causal)
    first, second = (config.build(free).double() for config in (even, odd))
    second.load_state_dict(first.state_dict())
    x = random(2, 20, 8)
    torch.testing.assert_close(first(x), second(x), rtol=1e-12, atol=1e-12)
    alone = SlidingWindowConfig(num_heads=2, num_kv_heads=2, window=1)
    assert alone.canonical(free) == alone


def test_the_cheaper_form_is_built() -> None:
    at = around(causal=True, context=64)
    narrow, wide = (
        SlidingWindowConfig(num_heads=2, num_kv_heads=2, window=window).build(at) for window in (16, 60)
    )
    assert isinstance(narrow, SlidingWindow)
    assert isinstance(wide, SlidingWindow)
    assert narrow.is_banded
    assert not wide.is_banded


def test_causal_pairs_are_counted_one_by_one() -> None:
    for tokens in (1, 5, 12):
        for window in (1, 3, 12, 40):
            config = SlidingWindowConfig(num_heads=2, num_kv_heads=1, window=window)
            pairs = sum(0 <= i - j < window for i in range(tokens) for j in range(tokens))
            # a score and a weighted value per head and pair
            assert config.mixing_macs_causal(around(causal=True), tokens) == 2 * 8 * pairs


def test_the_state_holds_the_last_window() -> None:
    config = SlidingWindowConfig(num_heads=4, num_kv_heads=2, window=8)
    at = around(causal=True, context=200, d_model=16)
    assert config.state_size(at, 3) == 2 * 2 * 4 * 3
    assert config.state_size(at, 100) == 2 * 2 * 4 * 8


@pytest.mark.parametrize("position", ["none", "rope", "alibi", "t5_bias", "decay"])
@pytest.mark.parametrize("window", [1, 3, 17], ids=["self", "banded", "square"])
@torch.no_grad()
def test_decoding_past_the_window_equals_the_whole(position: str, window: int) -> None:
    at = around(causal=True, position=position)
    config = SlidingWindowConfig(num_heads=4, num_kv_heads=2, window=window, qkv_dconv=3)
    torch.manual_seed(0)
    module = config.build(at).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x = random(2, 20, 8)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[1, :4] = mask[1, 9] = False
    whole, state = module(x, mask), module.init_state(2, dtype=torch.float64)
    for t in range(20):
        y, state = module.step(x[:, t : t + 1], state, torch.tensor(t), mask[:, t : t + 1])
        real = mask[:, t]
        # decay rates are no binary fractions: products in float32 kept, in float64 computed anew
        torch.testing.assert_close(y[real], whole[real, t : t + 1], rtol=1e-7, atol=1e-7)
        if t == 6:
            _, prefilled = module.prefill(x[:, :7], mask[:, :7])
            for name, kept in state.items():
                torch.testing.assert_close(prefilled[name], kept, rtol=1e-12, atol=1e-12)
    assert sum(kept[0].numel() for kept in state.values()) == config.state_size(at, 20)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("taps", [0, 3, 5])
def test_reach_is_where_the_gradient_ends(causal: bool, taps: int) -> None:
    config = SlidingWindowConfig(num_heads=2, num_kv_heads=2, window=4, qkv_dconv=taps)
    at = around(causal=causal)
    assert isinstance(config, AttentionConfig)
    torch.manual_seed(0)
    module = config.build(at).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    x = random(1, 20, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[0, 10].sum(), x)
    seen = gradient[0].abs().sum(-1).nonzero().flatten()
    reach = config.reach(at)
    assert seen.tolist() == list(range(10 - reach, 11 if causal else 11 + reach))
