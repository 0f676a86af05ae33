"""Gated convolution and pooling: identities and refusals."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from space.choice import Surroundings
from space.mixers.gated_conv import GatedConv, GatedConvConfig
from space.mixers.pool import PoolConfig
from space.positions import NonePositionConfig


def around(*, causal: bool) -> Surroundings:
    return Surroundings(
        d_model=6, context_length=20, num_layers=1, causal=causal, position=NonePositionConfig()
    )


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("causal", [True, False])
def test_a_delta_kernel_leaves_the_gated_linear_map(causal: bool) -> None:
    module = GatedConvConfig(width=5, gates=1).build(around(causal=causal)).double()
    here = 4 if causal else 2
    with torch.no_grad():
        module.kernel.zero_()
        module.kernel[:, here] = 1.0
    x = random(2, 9, 6)
    u, gate = module.input(x).chunk(2, dim=-1)
    torch.testing.assert_close(module(x), module.out(u * functional.silu(gate)), rtol=1e-12, atol=1e-12)


def test_the_kernel_starts_as_a_mean() -> None:
    torch.manual_seed(0)
    around = Surroundings(
        d_model=64, context_length=20, num_layers=1, causal=True, position=NonePositionConfig()
    )
    module = GatedConvConfig(width=64, gates=2).build(around)
    assert isinstance(module, GatedConv)
    assert module.kernel.mean().item() == pytest.approx(1 / 64, abs=2e-3)
    assert module.kernel.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("causal", [True, False])
def test_pooling_a_constant_gives_zero(causal: bool) -> None:
    module = PoolConfig(width=5).build(around(causal=causal))
    y = module(torch.full((2, 9, 6), 3.0))
    torch.testing.assert_close(y, torch.zeros_like(y), rtol=0, atol=1e-6)


def test_a_window_of_one_token_gives_zero() -> None:
    x = random(2, 9, 6)
    assert torch.equal(PoolConfig(width=1).build(around(causal=True))(x), torch.zeros_like(x))


def test_an_even_pooling_window_is_refused_with_the_next_odd_one() -> None:
    with pytest.raises(ValidationError, match="choose 5"):
        PoolConfig(width=4)
