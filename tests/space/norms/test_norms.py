"""Norms against their definitions."""

import pytest
import torch
from torch import Tensor, nn

from space.norms import LayerNormConfig, NormConfig, PRepBNConfig, RMSNormConfig
from space.norms.crmsnorm import CRMSNorm, UnscaledRMSNorm
from space.norms.layernorm import layernorm_reference
from space.roles import HasRoles


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_layernorm_equals_its_definition() -> None:
    module = LayerNormConfig().build(7).double()
    nn.init.normal_(module.gain)
    nn.init.normal_(module.bias)
    x = random(2, 5, 7).requires_grad_()
    fast, slow = module(x), layernorm_reference(x, module.gain, module.bias)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    inputs = [x, module.gain, module.bias]
    for a, b in zip(*(torch.autograd.grad((y**2).sum(), inputs) for y in (fast, slow)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_rmsnorm_equals_the_quotient_of_each_row() -> None:
    module = RMSNormConfig().build(3).double()
    x = torch.tensor([[3.0, 0.0, 4.0]], dtype=torch.float64)
    expected = x / ((25.0 / 3.0) + 1e-6) ** 0.5
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=0)


def test_layernorm_is_rmsnorm_of_the_centred_token() -> None:
    x = 10.0 * random(4, 16)
    layernorm, rmsnorm = LayerNormConfig().build(16).double(), RMSNormConfig().build(16).double()
    # eps differs: 1e-5 against 1e-6 beside a variance near 100
    torch.testing.assert_close(layernorm(x), rmsnorm(x - x.mean(-1, keepdim=True)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("config", [LayerNormConfig(), RMSNormConfig(), PRepBNConfig()])
def test_counts_types_and_zeros(config: NormConfig) -> None:
    module = config.build(6)
    assert sum(parameter.numel() for parameter in module.parameters()) == config.params(6)
    roles = {
        f"{prefix}.{name}".lstrip(".")
        for prefix, child in module.named_modules()
        if isinstance(child, HasRoles)
        for name in child.parameter_roles()
    }
    assert roles == {name for name, _ in module.named_parameters()}
    x = torch.zeros(2, 3, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x).sum(), x)
    assert torch.isfinite(gradient).all()
    assert module.to(torch.bfloat16)(torch.ones(2, 3, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_norms_of_centred_tokens_equal_layer_norm() -> None:
    """E4: LN(x) = RMS(x - mean), and the same without the last channel."""
    x = random(4, 9)
    centred = x - x.mean(-1, keepdim=True)
    expected = LayerNormConfig().build(9).double()(x)
    rms, crms = UnscaledRMSNorm(1e-5)(centred), CRMSNorm(1e-5)(centred[..., :-1])
    torch.testing.assert_close(rms, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(crms, expected[..., :-1], rtol=1e-12, atol=1e-12)
