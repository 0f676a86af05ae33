"""Softmax attention: grouped heads, masks and permutation."""

import pytest
import torch
from torch import Tensor

from space.choice import Surroundings
from space.errors import InvalidArchitectureError
from space.kernels.attention import ScoreBias, attention
from space.mixers.softmax import SoftmaxConfig


def around(*, causal: bool) -> Surroundings:
    return Surroundings(d_model=16, context_length=32, num_layers=1, causal=causal, position="none")


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_grouped_heads_equal_repeated_key_and_value_weights() -> None:
    grouped = SoftmaxConfig(num_heads=4, num_kv_heads=2).build(around(causal=True)).double()
    full = SoftmaxConfig(num_heads=4, num_kv_heads=4).build(around(causal=True)).double()
    q, k, v = torch.split(grouped.qkv.weight.detach(), [16, 8, 8])
    k, v = (part.reshape(2, 4, 16).repeat_interleave(2, dim=0).flatten(0, 1) for part in (k, v))
    full.load_state_dict({"qkv.weight": torch.cat([q, k, v]), "out.weight": grouped.out.weight})
    x = random(2, 9, 16)
    torch.testing.assert_close(grouped(x), full(x), rtol=1e-12, atol=1e-12)


def test_weights_sum_to_one_so_constant_values_pass_through() -> None:
    q, k = random(2, 4, 9, 3), random(2, 4, 9, 3)
    v = torch.ones(2, 4, 9, 3, dtype=torch.float64)
    for causal in (True, False):
        y = attention(q, k, v, ScoreBias(9, causal=causal))
        torch.testing.assert_close(y, v, rtol=1e-12, atol=0)


def test_a_query_without_any_key_gives_zero_and_no_gradient() -> None:
    q = random(1, 2, 4, 3).requires_grad_()
    mask = torch.tensor([[False, False, True, True]])
    y = attention(q, q, q, ScoreBias(4, causal=True), mask)
    assert torch.equal(y[:, :, :2], torch.zeros_like(y[:, :, :2]))
    (gradient,) = torch.autograd.grad(y.sum(), q)
    assert torch.equal(gradient[:, :, :2], torch.zeros_like(gradient[:, :, :2]))


def test_a_long_context_computes_the_bias_it_does_not_keep() -> None:
    long = ScoreBias(1100, causal=True, alibi_heads=4)
    short = ScoreBias(100, causal=True, alibi_heads=4)
    assert long.cached is None
    assert short.cached is not None
    like = torch.zeros(1, 4, 50, 2)
    assert torch.equal(long(like), short(like))


def test_both_ways_without_positions_permutes_with_its_input_and_causal_does_not() -> None:
    x, order = random(1, 6, 16), torch.tensor([3, 0, 5, 1, 4, 2])
    config = SoftmaxConfig(num_heads=2, num_kv_heads=2)
    free, causal = (config.build(around(causal=way)).double() for way in (False, True))
    torch.testing.assert_close(free(x[:, order]), free(x)[:, order], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(causal(x[:, order]), causal(x)[:, order])


@pytest.mark.parametrize(("heads", "groups"), [(3, 1), (4, 3)])
def test_head_counts_that_do_not_divide_are_refused(heads: int, groups: int) -> None:
    with pytest.raises(InvalidArchitectureError, match="does not divide"):
        SoftmaxConfig(num_heads=heads, num_kv_heads=groups).build(around(causal=True))
