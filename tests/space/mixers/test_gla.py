"""Gated linear attention: the whole module against its definition, its formulas, its special cases."""

from pathlib import Path
from typing import Literal

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
from space.mixers import gla
from space.mixers.gla import ForgetGate, Gla, GlaConfig, gla_reference
from space.mixers.mamba2 import mamba2_reference
from space.mixers.retention import retention_reference
from space.norms.rmsnorm import rmsnorm
from space.positions import NonePositionConfig

TOKENS = 23
every_gate = pytest.mark.parametrize("gate", ["vector", "scalar"])
Gate = Literal["vector", "scalar"]


def there(
    *, causal: bool = True, d_model: int = 16, context: int = TOKENS, rank_ratio: float = 1.0
) -> Surroundings:
    return Surroundings(
        d_model, context, num_layers=2, causal=causal, position=NonePositionConfig(), rank_ratio=rank_ratio
    )


def built(config: GlaConfig, at: Surroundings) -> Gla:
    torch.manual_seed(0)
    module = config.build(at)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
    return module


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def defined(module: Gla, x: Tensor, mask: Tensor | None) -> Tensor:
    """The module's output from its weights and the recurrence."""
    b, n, d = x.shape
    q, k, v, gate = torch.split(x @ module.input.get_parameter("weight").T, list(module.widths), dim=-1)
    q, k, v = (part.reshape(b, n, module.num_heads, -1).transpose(1, 2) for part in (q, k, v))
    fades = []
    for way in module.gates:
        assert isinstance(way, ForgetGate)
        logits = x
        for weight in way.maps.parameters():
            logits = logits @ weight.T
        fade = functional.logsigmoid(logits + way.bias) / 16
        fades.append(fade.reshape(b, n, module.num_heads, -1).transpose(1, 2))
    mixed = gla_reference(q / (d // 2 // module.num_heads) ** 0.5, k, v, tuple(fades), mask=mask)
    y: Tensor = module.out(rmsnorm(mixed, module.gain).transpose(1, 2).flatten(2) * functional.silu(gate))
    return y


@every_gate
@pytest.mark.parametrize("chunk", [1, 4, 16, TOKENS])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("is_padded", [True, False])
def test_every_form_equals_the_recurrence(
    gate: Gate, chunk: int, causal: bool, is_padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gla, "VECTOR_CHUNK", chunk)
    monkeypatch.setattr(gla, "SCALAR_CHUNK", chunk)
    module = built(GlaConfig(num_heads=2, gate=gate), there(causal=causal)).double()
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
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


def test_parameters_are_those_of_the_paper() -> None:
    d, heads = 64, 4
    assert GlaConfig(num_heads=heads).params(there(d_model=d)) == 4 * d**2 + 49 * d // 2 + d // heads
    scalar = GlaConfig(num_heads=heads, gate="scalar").params(there(d_model=d))
    assert scalar == 4 * d**2 + heads * (d + 1) + d // heads


@every_gate
def test_gates_stay_dense_and_float_at_every_rank(gate: Gate) -> None:
    config = GlaConfig(num_heads=4, gate=gate)
    low, dense = (config.build(there(d_model=64, rank_ratio=ratio)) for ratio in (0.25, 1.0))
    assert [p.shape for p in low.gates.parameters()] == [p.shape for p in dense.gates.parameters()]
    linears = [child for child in low.gates.modules() if isinstance(child, torch.nn.Linear)]
    assert linears
    assert all(getattr(linear, "keeps_float", False) for linear in linears)


def test_gates_start_close_to_remembering() -> None:
    torch.manual_seed(0)
    module = GlaConfig(num_heads=4).build(there(d_model=64))
    alpha = module.gates[0](torch.randn(2, 9, 64)).exp()
    torch.testing.assert_close(alpha, torch.full_like(alpha, 0.5 ** (1 / 16)), rtol=1e-2, atol=0)


def test_special_cases_agree_with_retention_mamba2_and_linear_attention() -> None:
    q, k, v = random(3, 2, 4, TOKENS, 4)
    rate = torch.tensor([-0.1, -0.2, -0.01, -2.0], dtype=torch.float64)
    constant = rate[:, None, None].expand(2, -1, TOKENS, 1)
    faded = gla_reference(q, k, v, (constant,))
    torch.testing.assert_close(gla_reference(q, k, v, (constant.expand_as(k),)), faded)
    torch.testing.assert_close(retention_reference(q, k, v, rate, causal=True), faded)
    both = gla_reference(q, k, v, (constant, constant))
    torch.testing.assert_close(retention_reference(q, k, v, rate, causal=False), both)
    ones = torch.ones(2, 4, TOKENS, 1, dtype=torch.float64)
    shared = gla_reference(q[:, :1].expand_as(q), k[:, :1].expand_as(k), v, (constant,))
    torch.testing.assert_close(mamba2_reference(v, k[:, :1], q[:, :1], ones, (rate[:, None, None],)), shared)
    plain = (q @ k.transpose(-1, -2)).tril() @ v
    torch.testing.assert_close(gla_reference(q, k, v, (0 * constant,)), plain)


def test_heads_of_odd_width_are_refused() -> None:
    with pytest.raises(InvalidArchitectureError, match="even width"):
        GlaConfig(num_heads=16).build(there())


@every_gate
@pytest.mark.parametrize("causal", [True, False])
def test_chunks_export_with_free_length_and_count_their_products(
    gate: Gate, causal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gla, "SCALAR_CHUNK", 16)
    at = there(causal=causal, context=140)
    config = GlaConfig(num_heads=2, gate=gate)
    module = built(config, at).eval()
    axes = {"x": {0: "batch", 1: "length"}, "y": {0: "batch", 1: "length"}}
    export_module(module, ("x", torch.randn(2, 9, 16)), "y", axes, tmp_path / "mixer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "mixer.onnx", providers=["CPUExecutionProvider"])
    for batch, tokens in [(1, 1), (3, 32), (2, 33), (1, 140)]:
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
    # input, parts (3 d), narrow and log decays; later values and gate (2 d), queries and keys (d), scores
    vector = GlaConfig(num_heads=heads).activation_size(at, n)
    assert vector == max(n * (4 * d + 16 + d // 2), n * 3 * d + heads * n * n)
    # scores of scalar gates stand beside their exponents
    scalar = GlaConfig(num_heads=heads, gate="scalar").activation_size(at, n)
    assert scalar == n * 3 * d + 2 * heads * n * n
