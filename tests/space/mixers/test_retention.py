"""Retention: the whole module against its definition, its formulas, its limits."""

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
from space.mixers import retention
from space.mixers.retention import Retention, RetentionConfig, log_decays, retention_reference
from space.norms.rmsnorm import rmsnorm
from space.positions import NonePositionConfig

TOKENS = 23


def there(*, causal: bool = True, d_model: int = 16, context: int = TOKENS) -> Surroundings:
    return Surroundings(d_model, context, num_layers=2, causal=causal, position=NonePositionConfig())


def built(config: RetentionConfig, at: Surroundings) -> Retention:
    torch.manual_seed(0)
    module = config.build(at)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def defined(module: Retention, x: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """The module's output from its weights and the recurrence."""
    b, n, d = x.shape
    q, k, v, gate = torch.split(x @ module.input.get_parameter("weight").T, list(module.widths), dim=-1)
    q, k, v = (part.reshape(b, n, module.num_heads, -1).transpose(1, 2) for part in (q, k, v))
    q, k = module.rotary(q) / (d // module.num_heads) ** 0.5, module.rotary(k)
    mixed = retention_reference(q, k, v, module.log_decay, causal=causal, mask=mask)
    normed = rmsnorm(mixed, module.gain).transpose(1, 2).flatten(2)
    y: Tensor = module.out(normed * functional.silu(gate))
    return y


@pytest.mark.parametrize("chunk", [1, 4, 16, 128])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("is_padded", [True, False])
def test_every_form_equals_the_recurrence(
    chunk: int, causal: bool, is_padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CHUNK", chunk)
    module = built(RetentionConfig(num_heads=2), there(causal=causal)).double()
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
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("expansion", "factor"), [(1, 5), (2, 8)])
def test_parameters_are_those_of_the_paper(expansion: int, factor: int) -> None:
    config = RetentionConfig(num_heads=4, value_expansion=expansion)
    assert config.params(there(d_model=64)) == factor * 64**2 + expansion * 16


def test_decays_are_those_of_the_paper_and_late_heads_still_fade() -> None:
    assert log_decays(2).exp().tolist() == pytest.approx([1 - 2**-5, 1 - 2**-6])
    assert log_decays(64)[-1].item() == pytest.approx(-(2.0**-68))
    assert (built(RetentionConfig(num_heads=64), there(d_model=512)).log_decay < 0).all()


def test_a_constant_rate_of_one_is_linear_attention() -> None:
    q, k, v = random(3, 2, 4, TOKENS, 4)
    plain = (q @ k.transpose(-1, -2)).tril() @ v
    unfaded = retention_reference(q, k, v, torch.zeros(4, dtype=torch.float64), causal=True)
    torch.testing.assert_close(unfaded, plain, rtol=1e-10, atol=1e-10)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InvalidArchitectureError, match="choose a divisor"):
        RetentionConfig(num_heads=3).build(there())


@pytest.mark.parametrize("causal", [True, False])
def test_chunks_export_with_free_length_and_count_their_products(
    causal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CHUNK", 16)
    at = there(causal=causal, context=70)
    config = RetentionConfig(num_heads=2)
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
    d, n, heads = 16, 20, 2
    at = there(context=n)
    config = RetentionConfig(num_heads=heads)
    # reading: input and q, k, v, gate; then q, k, v, gate and the scores; the values and gate are 2 d wide
    assert config.activation_size(at, n) == max(n * 7 * d, n * 6 * d + heads * n * n)
    # both ways the first direction's factors stand beside unfaded queries and keys
    both = config.activation_size(there(causal=False, context=n), n)
    assert both == max(n * 8 * d + heads * n * n, n * 6 * d + 2 * heads * n * n)
