"""Mamba-2: the whole module against its definition, its formulas, its special cases."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from space.choice import Surroundings
from space.errors import InvalidArchitectureError
from space.export.onnx import export_module
from space.mixers import mamba2
from space.mixers.mamba2 import Mamba2, Mamba2Config, mamba2_reference
from space.norms.rmsnorm import rmsnorm
from space.positions import NonePositionConfig

TOKENS = 23


def there(*, causal: bool = True, d_model: int = 16, context: int = TOKENS) -> Surroundings:
    return Surroundings(d_model, context, num_layers=2, causal=causal, position=NonePositionConfig())


def built(config: Mamba2Config, at: Surroundings) -> Mamba2:
    torch.manual_seed(0)
    module = config.build(at)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return module


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def taps(u: Tensor, kernel: Tensor, bias: Tensor, *, ahead: int) -> Tensor:
    """The convolution, tap by tap."""
    rows = []
    for t in range(u.shape[1]):
        row = bias.expand(u.shape[0], -1)
        for tap in range(kernel.shape[1]):
            j = t + ahead - (kernel.shape[1] - 1 - tap)
            if 0 <= j < u.shape[1]:
                row = row + kernel[:, tap] * u[:, j]
        rows.append(row)
    return torch.stack(rows, dim=1)


def defined(module: Mamba2, x: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """The module's output from its weights and the recurrence."""
    b, n, _ = x.shape
    inner, _, states, _, heads = module.widths
    real = torch.ones_like(x[..., :1]) if mask is None else mask[..., None].to(x.dtype)
    z, inputs = torch.split(module.input(x), [inner, inner + 2 * states], dim=-1)
    r = x @ module.steps.weight.T
    ahead = 0 if causal else module.kernel.shape[1] - 1 - module.kernel.shape[1] // 2
    u = functional.silu(taps(inputs * real, module.kernel, module.bias, ahead=ahead))
    values, k, q = torch.split(u, [inner, states, states], dim=-1)
    values = values.reshape(b, n, heads, -1).transpose(1, 2)
    delta = (functional.softplus(r + module.steps_bias) * real).transpose(1, 2)[..., None]
    rates = torch.split(-module.a_log.exp(), heads)
    mixed = mamba2_reference(values, k[:, None], q[:, None], delta, tuple(a[:, None, None] for a in rates))
    y = (mixed + module.skip[:, None, None] * values).transpose(1, 2).flatten(2)
    out: Tensor = module.out(rmsnorm(y * functional.silu(z), module.gain))
    return out


@pytest.mark.parametrize("chunk", [1, 4, 16, 128])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("is_padded", [True, False])
def test_every_form_equals_the_recurrence(
    chunk: int, causal: bool, is_padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mamba2, "CHUNK", chunk)
    config = Mamba2Config(head_width=8, state_width=6)
    module = built(config, there(causal=causal)).double()
    mask = torch.ones(2, TOKENS, dtype=torch.bool) if is_padded else None
    if mask is not None:
        mask[0, :5], mask[1, 17:] = False, False
    x = random(2, TOKENS, 16).requires_grad_()
    fast, slow = module(x, mask), defined(module, x, mask, causal=causal)
    if mask is not None:
        fast, slow = fast[mask], slow[mask]
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
    inputs = [x, *module.parameters()]
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), inputs) for y in (fast, slow)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


def test_parameters_are_those_of_the_source() -> None:
    config = Mamba2Config(head_width=64, state_width=128)
    assert config.params(there(d_model=256)) == 465_176


def test_the_recurrence_is_its_dual() -> None:
    values, shared = random(2, 3, TOKENS, 5), random(2, 2, TOKENS, 4)
    k, q = shared[:, :1], shared[:, 1:]
    delta = torch.rand(2, 3, TOKENS, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    rate = torch.tensor([-0.2, -1.0, 0.0], dtype=torch.float64)[:, None, None]
    total = (delta * rate).cumsum(2)
    dual = torch.exp(total - total.transpose(-1, -2)).tril() * (q @ k.transpose(-1, -2))
    fast = mamba2_reference(values, k, q, delta, (rate,))
    torch.testing.assert_close(fast, dual @ (delta * values), rtol=1e-10, atol=1e-10)


def test_head_width_snaps_to_a_divisor() -> None:
    wanted = {"expansion": 1, "head_width": 64, "state_width": 16, "conv_width": 4}
    assert Mamba2Config.snapped(wanted, there(d_model=32))["head_width"] == 32
    assert Mamba2Config.snapped(wanted, there(d_model=96))["head_width"] == 48
    assert Mamba2Config.snapped(wanted, there(d_model=128))["head_width"] == 64
    with pytest.raises(InvalidArchitectureError, match="choose a divisor"):
        Mamba2Config(head_width=64, expansion=1).build(there(d_model=96))


def test_starts_as_the_source_says() -> None:
    torch.manual_seed(0)
    module = Mamba2Config().build(there(d_model=256))
    assert ((module.a_log.exp() >= 1) & (module.a_log.exp() <= 16)).all()
    steps = functional.softplus(module.steps_bias)
    assert ((steps > 0.999e-3) & (steps < 0.1001)).all()
    assert torch.equal(module.skip, torch.ones(16))


@pytest.mark.parametrize("causal", [True, False])
def test_chunks_export_with_free_length_and_count_their_products(
    causal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mamba2, "CHUNK", 16)
    at = there(causal=causal, context=70)
    config = Mamba2Config(head_width=8, state_width=8)
    module = built(config, at).eval()
    axes = {"x": {0: "batch", 1: "length"}, "y": {0: "batch", 1: "length"}}
    export_module(module, ("x", torch.randn(2, 9, 16)), "y", axes, tmp_path / "mixer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "mixer.onnx", providers=["CPUExecutionProvider"])
    for batch, tokens in [(1, 1), (3, 16), (2, 33), (1, 70)]:
        x = random(batch, tokens, 16).float()
        with FlopCounterMode(display=False) as counter:
            y = module(x)
        assert counter.get_total_flops() == 2 * batch * config.macs(at, tokens)
        np.testing.assert_allclose(
            session.run(None, {"x": x.numpy()})[0], y.detach().numpy(), rtol=1e-4, atol=1e-4
        )


def test_activation_peak_of_one_chunk_is_the_counted_one() -> None:
    d, n, inner, states, heads = 16, 20, 32, 8, 4
    config = Mamba2Config(head_width=8, state_width=states)
    # gate, values before and after their steps, B and C, exponents of all heads and the scores they share
    counted = n * (3 * inner + 2 * states) + (heads + 1) * n * n
    assert config.activation_size(there(context=n), n) == counted
    assert counted > n * (d + 2 * inner + 2 * states + heads)
