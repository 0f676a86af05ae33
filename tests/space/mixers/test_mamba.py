"""Mamba: the whole module against its definition, its formulas, its start."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from space.choice import Surroundings
from space.export.onnx import export_module
from space.kernels import scan
from space.mixers.mamba import Mamba, MambaConfig, mamba_reference
from space.positions import NonePositionConfig

TOKENS = 23


def there(*, causal: bool = True, d_model: int = 16, context: int = TOKENS) -> Surroundings:
    return Surroundings(d_model, context, num_layers=2, causal=causal, position=NonePositionConfig())


def built(config: MambaConfig, at: Surroundings) -> Mamba:
    torch.manual_seed(0)
    module = config.build(at)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return module


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def taps(u: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """The causal convolution, tap by tap."""
    rows = []
    for t in range(u.shape[1]):
        row = bias.expand(u.shape[0], -1)
        for back in range(min(kernel.shape[1], t + 1)):
            row = row + kernel[:, -1 - back] * u[:, t - back]
        rows.append(row)
    return torch.stack(rows, dim=1)


def defined(module: Mamba, x: Tensor, mask: Tensor | None) -> Tensor:
    """The module's output from its weights and the recurrence, each direction on its own reading of x."""
    inputs, z = module.input(x).chunk(2, dim=-1)
    real = torch.ones_like(x[..., :1]) if mask is None else mask[..., None].to(x.dtype)
    total = torch.zeros_like(z)
    for way in range(len(module.directions)):
        own = module._direction(way)
        read, there_is = ((inputs * real).flip(1), real.flip(1)) if way else (inputs * real, real)
        u = functional.silu(taps(read, module.kernel, module.bias))
        r, writes, reads = torch.split(u @ module.selects.weight.T, list(module.widths), dim=-1)
        delta = functional.softplus(r @ own.steps.weight.T + own.steps_bias) * there_is
        y = mamba_reference(delta, u, own.rates(), writes, reads) + own.skip * u
        total = total + (y.flip(1) if way else y)
    out: Tensor = module.out(total * functional.silu(z))
    return out


@pytest.mark.parametrize("cached", [1, 2**15])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("is_padded", [True, False])
def test_every_form_equals_the_recurrence(
    cached: int, causal: bool, is_padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "CACHED_STATES", cached)
    module = built(MambaConfig(state_width=4, conv_width=3), there(causal=causal)).double()
    mask = torch.ones(2, TOKENS, dtype=torch.bool) if is_padded else None
    if mask is not None:
        mask[0, :5], mask[1, 17:] = False, False
    x = random(2, TOKENS, 16).requires_grad_()
    fast, slow = module(x, mask), defined(module, x, mask)
    if mask is not None:
        fast, slow = fast[mask], slow[mask]
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
    inputs = [x, *module.parameters()]
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), inputs) for y in (fast, slow)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_parameters_are_those_of_the_source() -> None:
    assert MambaConfig().params(there(d_model=256)) == 437_760


def test_a_width_that_16_does_not_divide_rounds_the_rank_up() -> None:
    assert MambaConfig().rank(there(d_model=24)) == 2
    assert built(MambaConfig(), there(d_model=24))(torch.zeros(1, 3, 24)).shape == (1, 3, 24)


def test_one_state_with_constant_steps_is_a_moving_average() -> None:
    u, rate, step = random(1, TOKENS, 3), -0.7, 0.4
    ones = torch.ones(1, TOKENS, 1, dtype=torch.float64)
    a = torch.full((1, 3), rate, dtype=torch.float64)
    y = mamba_reference(torch.full_like(u, step), u, a, ones, ones)
    lag = torch.arange(TOKENS)[:, None] - torch.arange(TOKENS)
    weights = torch.where(lag >= 0, step * torch.exp(step * rate * lag.clamp(min=0).double()), 0.0)
    torch.testing.assert_close(y, weights @ u, rtol=1e-12, atol=1e-12)


def test_starts_as_the_source_says() -> None:
    torch.manual_seed(0)
    module = MambaConfig().build(there(d_model=64))
    own = module._direction(0)
    wanted = torch.arange(1.0, 17.0)[:, None].expand(16, 128)
    torch.testing.assert_close(-own.rates(), wanted)
    assert torch.equal(own.skip, torch.ones(128))
    steps = functional.softplus(own.steps_bias)
    assert 0.999e-3 < steps.min() < 0.01
    assert 0.03 < steps.max() < 0.1001
    assert 0.4 < own.steps.weight.abs().max() <= 0.5
    # what optimisers shall not shrink has one axis
    assert own.a_log.ndim == own.skip.ndim == own.steps_bias.ndim == 1
    assert own.steps.keeps_float
    assert module.selects.keeps_float


@pytest.mark.parametrize("causal", [True, False])
def test_exports_with_free_length_and_counts_its_products(causal: bool, tmp_path: Path) -> None:
    at = there(causal=causal, context=70)
    config = MambaConfig(state_width=8)
    module = built(config, at).eval()
    axes = {"x": {0: "batch", 1: "length"}, "y": {0: "batch", 1: "length"}}
    export_module(module, ("x", torch.randn(2, 9, 16)), "y", axes, tmp_path / "mixer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "mixer.onnx", providers=["CPUExecutionProvider"])
    for batch, tokens in [(1, 1), (3, 16), (2, 33), (1, 70)]:
        x = random(batch, tokens, 16).float()
        if batch == 1:
            with FlopCounterMode(display=False) as counter:
                module(x)
            assert counter.get_total_flops() == 2 * config.macs(at, tokens)
        np.testing.assert_allclose(
            session.run(None, {"x": x.numpy()})[0], module(x).detach().numpy(), rtol=1e-4, atol=1e-4
        )


def test_activation_peak_of_a_short_sequence_is_the_counted_one() -> None:
    # 7 tokens are one chunk: z, u, inputs of the states and what W_x gives, beside all decays and additions
    n, inner, states, rank = 7, 32, 16, 1
    counted = n * (3 * inner + rank + 2 * states) + 2 * n * inner * states
    assert MambaConfig().activation_size(there(), n) == counted
