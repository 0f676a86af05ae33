"""Blocks: the definition, borders and shifted borders, weights without softmax, counts and state."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from space.choice import Mixer, PositionChoice, Surroundings
from space.errors import InvalidArchitectureError
from space.kernels.attention import ScoreBias
from space.mixers import AxialConfig, BlockLocalConfig, SlidingWindowConfig, SoftmaxConfig
from space.mixers.axial import AxialSum
from space.mixers.block_local import BlockLocal, block_local_reference, unit_rms
from space.mixing.attention import AttentionConfig
from space.positions import AlibiConfig, NonePositionConfig, RopeConfig, T5BiasConfig

both_ways = pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
shifted = pytest.mark.parametrize("shift", [False, True], ids=["aligned", "shifted"])
every_weight = pytest.mark.parametrize("weights", ["softmax", "relu", "relu2"])


def around(
    *, causal: bool, position: PositionChoice | None = None, context: int = 20, layers: int = 1
) -> Surroundings:
    return Surroundings(
        d_model=8,
        context_length=context,
        num_layers=layers,
        causal=causal,
        position=position or NonePositionConfig(),
    )


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blocks(**fields: Any) -> BlockLocalConfig:
    return BlockLocalConfig(num_heads=4, num_kv_heads=2, **fields)


def built(config: AttentionConfig, at: Surroundings) -> Mixer:
    torch.manual_seed(0)
    module = config.build(at).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module


def seen(module: nn.Module, tokens: int, i: int) -> list[int]:
    x = random(1, tokens, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[0, i].sum(), x)
    return [j for j in range(tokens) if gradient[0, j].abs().sum() > 0]


@both_ways
@shifted
@every_weight
@pytest.mark.parametrize(("window", "tokens"), [(1, 3), (5, 4), (5, 10), (6, 20)])
def test_blocks_equal_the_masked_square(
    causal: bool, shift: bool, weights: Any, window: int, tokens: int
) -> None:
    mask = torch.rand(2, tokens, generator=torch.Generator().manual_seed(1)) > 0.3
    for position, real in ((AlibiConfig(), None), (T5BiasConfig(), mask)):
        at = around(causal=causal, position=position)
        module = built(blocks(window=window, shift=shift, weights=weights), at)
        assert isinstance(module, BlockLocal)
        q, k, v = (random(2, heads, tokens, 3, seed=heads + 1).requires_grad_() for heads in (4, 2, 2))
        everywhere = ScoreBias(around(causal=False, position=position), 4)
        everywhere.relative, everywhere.cached = module.bias.relative, None
        # on blocks the causal table of t5 only meets keys behind the query
        bias = everywhere.between(torch.arange(tokens), torch.arange(tokens))
        fast = module.attend(q, k, v, real)
        slow = block_local_reference(
            q, k, v, window=window, causal=causal, shift=shift, weights=weights, bias=bias, mask=real
        )
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
        weight = random(*fast.shape, seed=9)
        a, b = (torch.autograd.grad((y * weight).sum(), (q, k, v), retain_graph=True) for y in (fast, slow))
        for one, other in zip(a, b, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@both_ways
def test_one_block_is_a_wide_window_is_one_row_is_softmax(causal: bool) -> None:
    at = around(causal=causal, position=RopeConfig())
    full = built(SoftmaxConfig(num_heads=4, num_kv_heads=2), at)
    options = {"num_heads": 4, "num_kv_heads": 2}
    block = built(BlockLocalConfig(**options, window=20), at)
    window = built(SlidingWindowConfig(**options, window=40), at)
    axial = built(AxialConfig(**options, columns=20), at)
    assert isinstance(axial, AxialSum)
    x = random(2, 17, 8)
    for module in (block, window, axial.rows):
        module.load_state_dict(full.state_dict())
        torch.testing.assert_close(module(x), full(x), rtol=1e-9, atol=1e-9)


def test_a_block_over_the_context_is_softmax_in_canonical_form() -> None:
    at, full = around(causal=True), SoftmaxConfig(num_heads=4, num_kv_heads=2, qk_norm=True)
    assert blocks(window=20, qk_norm=True).canonical(at) == full
    assert blocks(window=40, shift=True, qk_norm=True).canonical(at) == full
    for config in (blocks(window=19), blocks(window=39, shift=True), blocks(window=20, weights="relu")):
        assert config.canonical(at) == config
    assert blocks(window=90, shift=True, weights="relu").canonical(at) == blocks(window=20, weights="relu")
    assert blocks(window=1, shift=True).canonical(at) == blocks(window=1)


@both_ways
@shifted
def test_a_token_sees_its_block_and_nothing_else(causal: bool, shift: bool) -> None:
    module = built(blocks(window=5, shift=shift), around(causal=causal))
    borders = [0, 2, 7, 12, 17] if shift else [0, 5, 10, 15, 17]
    for begin, end in pairwise(borders):
        for i in range(begin, end):
            assert seen(module, 17, i) == list(range(begin, i + 1 if causal else end))


@both_ways
def test_a_shifted_layer_carries_over_the_borders_of_the_one_before(causal: bool) -> None:
    at = around(causal=causal, layers=2)
    pair = [built(blocks(window=4, shift=shift), at) for shift in (False, True)]
    alone = [built(blocks(window=4), at) for _ in range(2)]
    stacked = nn.Sequential(*pair)
    for i in range(12):
        first = 0 if i < 2 else (i - 2) // 4 * 4 + 2
        last = i if causal else min(11, 1 if i < 2 else first + 3)
        expected = {
            j for m in range(first, last + 1) for j in range(m // 4 * 4, m + 1 if causal else m // 4 * 4 + 4)
        }
        assert seen(stacked, 12, i) == sorted(expected)
        assert seen(nn.Sequential(*alone), 12, i) == list(
            range(i // 4 * 4, i + 1 if causal else i // 4 * 4 + 4)
        )


@shifted
def test_pairs_are_counted_one_by_one(shift: bool) -> None:
    at = around(causal=True)
    for window in (1, 4, 5, 33):
        config = blocks(window=window, shift=shift)
        first = window // 2 if shift else 0
        for tokens in (1, 2, 5, 12, 20):
            block = [0 if i < first else 1 + (i - first) // window for i in range(tokens)]
            pairs = sum(block[i] == block[j] for i in range(tokens) for j in range(i + 1))
            assert config.pairs_causal(at, tokens) == pairs
            assert config.pairs(at, tokens) >= pairs
            assert config.mixing_macs_causal(at, tokens) == 2 * 8 * pairs


@every_weight
@shifted
@pytest.mark.parametrize("position", [NonePositionConfig(), T5BiasConfig(), RopeConfig()], ids=str)
@torch.no_grad()
def test_decoding_goes_on_from_any_prompt(weights: Any, shift: bool, position: PositionChoice) -> None:
    """Also past several borders, and where a sequence has padding."""
    at = around(causal=True, position=position)
    config = blocks(window=4, weights=weights, shift=shift, qkv_dconv=3)
    module = built(config, at)
    x = random(2, 14, 8)
    mask = torch.ones(2, 14, dtype=torch.bool)
    mask[0, :3] = mask[1, 5] = False
    whole = module(x, mask)
    for prompt in (0, 1, 4, 7, 10):
        state = module.init_state(2, dtype=torch.float64)
        if prompt:
            y, state = module.prefill(x[:, :prompt], mask[:, :prompt])
            assert torch.equal(y, module(x[:, :prompt], mask[:, :prompt]))
        for t in range(prompt, 14):
            y, state = module.step(x[:, t : t + 1], state, torch.tensor(t), mask[:, t : t + 1])
            real = mask[:, t]
            torch.testing.assert_close(y[real], whole[real, t : t + 1], rtol=1e-9, atol=1e-9)
        assert sum(value.numel() for value in state.values()) == 2 * config.state_size(at, 14)


def test_weights_that_are_no_probabilities_are_brought_to_one_size() -> None:
    heads = 1e25 * random(2, 3, 5, 4)
    together = unit_rms(heads.float()).square().mean(dim=(1, 3))
    torch.testing.assert_close(together, torch.ones_like(together))
    assert torch.equal(unit_rms(torch.zeros(1, 2, 3, 4)), torch.zeros(1, 2, 3, 4))


def test_clipping_needs_probabilities() -> None:
    at = around(causal=True)
    with pytest.raises(InvalidArchitectureError, match="clips probabilities"):
        blocks(window=4, weights="relu", clipped_softmax=4).check(at)
    snapped = BlockLocalConfig.snapped({"weights": "relu", "clipped_softmax": 4, "window": 4}, at)
    assert snapped["clipped_softmax"] == 0
    kept = BlockLocalConfig.snapped({"weights": "softmax", "clipped_softmax": 4, "window": 4}, at)
    assert kept["clipped_softmax"] == 4


@both_ways
@shifted
def test_the_peak_of_live_numbers_is_the_counted_one(causal: bool, shift: bool) -> None:
    """Each list: what is alive while one operator runs."""
    at, d, kv, heads = around(causal=causal), 8, 4, 4
    for window in (1, 4, 5, 20):
        config = blocks(window=window, shift=shift)
        for n in (1, 8, 19):
            places = -(-(n + config.front) // window) * window
            scores = heads * places * window
            q, k, v = places * d, places * kv, places * kv
            stages = [
                [n * d, n * d, n * kv, n * kv],  # input, queries, keys, values
                [q, k, v, scores],
                [v, scores, places * d],
                [n * d, n * d],  # attended, output
            ]
            if places > n:
                stages += [[n * d, n * kv, n * kv, q], [n * kv, n * kv, q, k], [n * kv, q, k, v]]
            assert config.activation_size(at, n) == max(sum(alive) for alive in stages), (window, n)
