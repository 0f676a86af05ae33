"""Softmax attention: grouped heads, own head width, masks, permutation, torch's own form, refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from space.choice import Surroundings
from space.errors import InvalidArchitectureError
from space.kernels.attention import ScoreBias, attention
from space.mixers.softmax import Softmax, SoftmaxConfig
from space.positions import NonePositionConfig, RopeConfig


def around(*, causal: bool) -> Surroundings:
    return Surroundings(
        d_model=16, context_length=32, num_layers=1, causal=causal, position=NonePositionConfig()
    )


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def built(at: Surroundings, **options: Any) -> Softmax:
    torch.manual_seed(0)
    module = SoftmaxConfig(**options).build(at).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module


def test_grouped_heads_equal_repeated_key_and_value_weights() -> None:
    grouped = built(around(causal=True), num_heads=4, num_kv_heads=2)
    full = built(around(causal=True), num_heads=4, num_kv_heads=4)
    q, k, v = torch.split(grouped.get_parameter("qkv.weight").detach(), [16, 8, 8])
    k, v = (part.reshape(2, 4, 16).repeat_interleave(2, dim=0).flatten(0, 1) for part in (k, v))
    full.load_state_dict(
        {"qkv.weight": torch.cat([q, k, v]), "out.weight": grouped.get_parameter("out.weight")}
    )
    x = random(2, 9, 16)
    torch.testing.assert_close(grouped(x), full(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("width", [0, 1, 6])
def test_equals_torch_with_grouped_heads_of_any_width(causal: bool, width: int) -> None:
    module = built(around(causal=causal), num_heads=4, num_kv_heads=2, head_width=width)
    h = width or 4
    x = random(2, 9, 16)
    q, k, v = (
        (x @ weight.T).reshape(2, 9, -1, h).transpose(1, 2)
        for weight in torch.split(module.get_parameter("qkv.weight"), [4 * h, 2 * h, 2 * h])
    )
    y = functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    expected = y.transpose(1, 2).flatten(2) @ module.get_parameter("out.weight").T
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-12)


def test_weights_sum_to_one_so_constant_values_pass_through() -> None:
    q, k = random(2, 4, 9, 3), random(2, 4, 9, 3)
    v = torch.ones(2, 4, 9, 3, dtype=torch.float64)
    for causal in (True, False):
        y = attention(q, k, v, ScoreBias(around(causal=causal), 4))
        torch.testing.assert_close(y, v, rtol=1e-12, atol=0)


def test_a_query_without_any_key_gives_zero_and_no_gradient() -> None:
    q = random(1, 2, 4, 3).requires_grad_()
    mask = torch.tensor([[False, False, True, True]])
    y = attention(q, q, q, ScoreBias(around(causal=True), 2), mask)
    assert torch.equal(y[:, :, :2], torch.zeros_like(y[:, :, :2]))
    (gradient,) = torch.autograd.grad(y.sum(), q)
    assert torch.equal(gradient[:, :, :2], torch.zeros_like(gradient[:, :, :2]))


def test_both_ways_without_positions_permutes_with_its_input_and_causal_does_not() -> None:
    x, order = random(1, 6, 16), torch.tensor([3, 0, 5, 1, 4, 2])
    free, causal = (built(around(causal=way), num_heads=2, num_kv_heads=2) for way in (False, True))
    torch.testing.assert_close(free(x[:, order]), free(x)[:, order], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(causal(x[:, order]), causal(x)[:, order])


@pytest.mark.parametrize(("heads", "groups"), [(3, 1), (4, 3)])
def test_head_counts_that_do_not_divide_are_refused(heads: int, groups: int) -> None:
    with pytest.raises(InvalidArchitectureError, match="does not divide"):
        SoftmaxConfig(num_heads=heads, num_kv_heads=groups).build(around(causal=True))


def test_any_head_count_stands_with_a_head_width_of_its_own() -> None:
    at = around(causal=True)
    config = SoftmaxConfig(num_heads=3, num_kv_heads=1, head_width=8)
    module = config.build(at)
    assert module(torch.zeros(1, 5, 16)).shape == (1, 5, 16)
    assert config.params(at) == sum(p.numel() for p in module.parameters()) == 16 * 8 * (2 * 3 + 2)
    with pytest.raises(InvalidArchitectureError, match="no shares of d_model=16"):
        config.model_copy(update={"gated_attention": "per_token"}).check(at)


def test_heads_too_narrow_to_turn_are_refused() -> None:
    at = Surroundings(d_model=4, context_length=8, num_layers=1, causal=True, position=RopeConfig())
    with pytest.raises(InvalidArchitectureError, match="use fewer heads"):
        SoftmaxConfig(num_heads=4, num_kv_heads=1).build(at)


def test_the_state_grows_by_one_key_and_value_per_token() -> None:
    config = SoftmaxConfig(num_heads=4, num_kv_heads=2)
    assert [config.state_size(around(causal=True), n) for n in (0, 1, 7)] == [0, 16, 7 * 16]


def test_a_16_bit_cache_keeps_the_mark_of_padded_tokens() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        module = SoftmaxConfig(num_heads=2, num_kv_heads=2).build(around(causal=True)).to(dtype)
        x = random(1, 4, 16).to(dtype)
        mask = torch.tensor([[False, False, True, True]])
        whole = module(x, mask)
        _, state = module.prefill(x[:, :3], mask[:, :3])
        y, _ = module.step(x[:, 3:], state, torch.tensor(3), mask[:, 3:])
        # weights of 8 or 11 bits
        torch.testing.assert_close(y, whole[:, 3:], rtol=2e-2, atol=2e-2)
