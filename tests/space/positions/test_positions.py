"""Rotation, distance penalties and the learned table."""

import pytest
import torch
from torch import Tensor

from space.choice import Surroundings
from space.kernels.attention import score_bias
from space.positions import LearnedPositionConfig, NonePositionConfig, RopeConfig
from space.positions.alibi import alibi_slopes
from space.positions.learned import LearnedPosition
from space.positions.rope import rotary_tables, rotate, rotate_reference


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(x: Tensor, first: int = 0) -> Tensor:
    return rotate(x, *rotary_tables(x.shape[2], x.shape[3], first=first))


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_rotation_equals_its_definition_pair_by_pair(width: int) -> None:
    x = random(2, 3, 7, width).requires_grad_()
    fast, slow = turned(x, first=4), rotate_reference(x, first=4)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    a, b = (torch.autograd.grad((y**2).sum(), x)[0] for y in (fast, slow))
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("width", [2, 5, 8])
def test_scores_depend_on_the_distance_only(width: int) -> None:
    q, k = random(1, 2, 9, width), random(1, 2, 9, width, seed=1)
    here, there = (turned(q, first) @ turned(k, first).transpose(-1, -2) for first in (0, 1000))
    torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)


def test_rotation_keeps_lengths_and_the_first_token() -> None:
    x = random(1, 2, 9, 7)
    y = turned(x)
    torch.testing.assert_close(y.norm(dim=-1), x.norm(dim=-1), rtol=1e-12, atol=0)
    assert torch.equal(y[:, :, 0], x[:, :, 0])
    assert torch.equal(y[..., -1], x[..., -1])  # the channel without partner


def test_slopes_of_eight_and_twelve_heads() -> None:
    eight = [2.0**-k for k in range(1, 9)]
    assert alibi_slopes(8).tolist() == eight
    twelve = [*eight, *(2.0 ** -(k + 0.5) for k in range(4))]
    torch.testing.assert_close(alibi_slopes(12), torch.tensor(twelve, dtype=torch.float64))


def test_penalty_is_linear_in_the_distance_to_both_sides() -> None:
    slopes = torch.tensor([0.5])
    bias = score_bias(4, causal=False, slopes=slopes)[0]
    assert bias.tolist() == [[-0.5 * abs(i - j) for j in range(4)] for i in range(4)]


def test_learned_positions_add_one_row_per_token() -> None:
    around = Surroundings(d_model=6, context_length=10, num_layers=1, causal=True, position="learned")
    config = LearnedPositionConfig()
    module = config.build(around)
    assert isinstance(module, LearnedPosition)
    assert sum(parameter.numel() for parameter in module.parameters()) == config.params(6, 10)
    x = torch.zeros(2, 4, 6)
    assert torch.equal(module(x), module.table[:4].expand(2, 4, 6))


def test_what_acts_in_mixers_leaves_the_embedding_alone() -> None:
    around = Surroundings(d_model=6, context_length=10, num_layers=1, causal=True, position="rope")
    x = torch.ones(2, 4, 6)
    for config in (NonePositionConfig(), RopeConfig()):
        assert torch.equal(config.build(around)(x), x)
        assert config.params(6, 10) == 0
