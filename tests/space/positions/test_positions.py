"""Positions added to the embedding: the learned table, the fixed waves; and the choices that add nothing."""

import math

import pytest
import torch
from torch import Tensor

from space.choice import PositionChoice, Surroundings
from space.errors import InvalidInputError
from space.mixers import GatedConvConfig, SoftmaxConfig
from space.positions import (
    POSITIONS,
    AlibiConfig,
    DecayConfig,
    LearnedPositionConfig,
    NonePositionConfig,
    RopeConfig,
    SinusoidalPositionConfig,
    T5BiasConfig,
)
from space.positions.learned import LearnedPosition
from space.positions.sinusoidal import waves

IN_MIXERS = (RopeConfig(), AlibiConfig(), DecayConfig(), T5BiasConfig())


def around(position: PositionChoice, *, causal: bool = True, d_model: int = 6) -> Surroundings:
    return Surroundings(d_model=d_model, context_length=10, num_layers=1, causal=causal, position=position)


def test_every_position_of_the_design_is_there() -> None:
    kinds = {"none", "learned", "sinusoidal", "rope", "alibi", "decay", "t5_bias"}
    assert kinds <= set(POSITIONS)


def test_learned_positions_add_one_row_per_token() -> None:
    config = LearnedPositionConfig()
    module = config.build(around(config))
    assert isinstance(module, LearnedPosition)
    assert sum(parameter.numel() for parameter in module.parameters()) == config.params(around(config), ())
    x = torch.zeros(2, 4, 6)
    assert torch.equal(module(x), module.table[:4].expand(2, 4, 6))
    with pytest.raises(InvalidInputError, match="11 tokens are more than the 10 learned positions"):
        module(torch.zeros(1, 11, 6))


@pytest.mark.parametrize("d_model", [1, 6, 7])
def test_waves_are_those_of_the_definition(d_model: int) -> None:
    expected = torch.empty(9, d_model, dtype=torch.float64)
    for i in range(9):
        for channel in range(d_model):
            angle = i / 10_000 ** (2 * (channel // 2) / d_model)
            expected[i, channel] = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
    torch.testing.assert_close(waves(9, d_model), expected, rtol=1e-12, atol=1e-12)


def test_waves_go_on_beyond_the_context_and_have_no_parameters() -> None:
    config = SinusoidalPositionConfig()
    module = config.build(around(config))
    assert list(module.parameters()) == []
    assert config.params(around(config), ()) == 0
    x = torch.zeros(1, 30, 6)
    torch.testing.assert_close(module(x)[0], waves(30, 6).float())
    assert torch.equal(module(x)[:, :10], module(x[:, :10]))


@pytest.mark.parametrize("config", [LearnedPositionConfig(), SinusoidalPositionConfig()])
def test_one_token_at_a_time_gets_the_same_rows(config: PositionChoice) -> None:
    module = config.build(around(config))
    x = torch.randn(2, 10, 6, generator=torch.Generator().manual_seed(0))
    steps = [module(x[:, t : t + 1], torch.tensor(t)) for t in range(10)]
    assert torch.equal(torch.cat(steps, dim=1), module(x))


@pytest.mark.parametrize("config", [NonePositionConfig(), *IN_MIXERS])
def test_what_acts_in_mixers_leaves_the_embedding_alone(config: PositionChoice) -> None:
    x = torch.ones(2, 4, 6)
    assert torch.equal(config.build(around(config))(x), x)


def test_only_tables_count_as_parameters() -> None:
    mixers = (
        SoftmaxConfig(num_heads=4, num_kv_heads=2),
        SoftmaxConfig(num_heads=2, num_kv_heads=2),
        SoftmaxConfig(num_heads=4, num_kv_heads=1),
        GatedConvConfig(width=3, gates=1),
    )
    at = around(T5BiasConfig(), d_model=8)
    assert T5BiasConfig().params(at, mixers) == 32 * (4 + 2)
    assert T5BiasConfig().params(at, mixers[3:]) == 0
    for config in (NonePositionConfig(), RopeConfig(), AlibiConfig(), DecayConfig()):
        assert config.params(at, mixers) == 0


def test_options_at_their_default_leave_the_canonical_form() -> None:
    assert RopeConfig().model_dump() == {"kind": "rope"}
    assert RopeConfig(rotary_pct=0.5).model_dump() == {"kind": "rope", "rotary_pct": 0.5}
    assert DecayConfig().model_dump() == {"kind": "decay"}
    with pytest.raises(ValueError, match="is none of"):
        RopeConfig(rotary_pct=0.3)


def test_both_ways_without_positions_permutes_with_its_input_and_causal_does_not() -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    x: Tensor = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    config = SoftmaxConfig(num_heads=2, num_kv_heads=2)
    free, causal = (
        config.build(around(NonePositionConfig(), causal=way, d_model=8)).double() for way in (False, True)
    )
    torch.testing.assert_close(free(x[:, order]), free(x)[:, order], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(causal(x[:, order]), causal(x)[:, order])
