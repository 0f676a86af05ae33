"""Attention, gated convolution and pooling against their definitions.

Values and gradients in float64, odd lengths, padding anywhere, every option.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from space.choice import MixerChoice, Scheduled, Surroundings
from space.mixers import GatedConvConfig, PoolConfig, SlidingWindowConfig, SoftmaxConfig
from space.mixers.gated_conv import GatedConv, gated_conv_reference
from space.mixers.pool import Pool, pool_reference
from space.mixers.sliding_window import sliding_window_reference
from space.mixers.softmax import softmax_reference
from space.mixing.attention import Attention, AttentionConfig
from space.mixing.attention_parts import HeadConvolution, WeightedProjection, head_convolution_reference
from space.norms.rmsnorm import RMSNorm
from space.positions import POSITIONS
from space.positions.additive_bias import relative_bias

D_MODEL = 12
CONTEXT = 150
Definition = Callable[[nn.Module, MixerChoice, Tensor, Tensor | None, Surroundings], Tensor]


def heads(x: Tensor, weight: Tensor, count: int) -> Tensor:
    return (x @ weight.T).reshape(*x.shape[:2], count, -1).transpose(1, 2)


def score_bias_of(module: Attention, n: int, at: Surroundings) -> Tensor | None:
    """Of a constant choice in float32, as it is kept; of a trained table as it is."""
    behind = torch.arange(n)[:, None] - torch.arange(n)[None, :]
    constant = relative_bias(at, module.num_heads)
    if constant is None:
        return None
    relative = module.get_submodule("bias.relative")
    is_trained = any(True for _ in relative.parameters())
    bias: Tensor = relative(behind) if is_trained else constant(behind)
    return bias.double()


def normed(u: Tensor, norm: nn.Module | None) -> Tensor:
    if norm is None:
        return u
    assert isinstance(norm, RMSNorm)
    return u / torch.sqrt((u * u).mean(-1, keepdim=True) + 1e-6) * norm.gain


def gate_of(module: Attention, kind: str, x: Tensor) -> Tensor:
    """[batch, tokens, heads], or 1 where there is none."""
    if kind == "none":
        return torch.ones(1, 1, 1, dtype=torch.float64)
    of = dict(module.named_parameters())
    if kind == "per_head":
        return 1 / (1 + torch.exp(-of["gate.logit"]))[None, None]
    if kind == "per_token":
        shares = x.reshape(*x.shape[:2], module.num_heads, -1)
        scores = (shares * of["gate.weight"]).sum(-1) + of["gate.bias"]
    else:
        scores = x @ of["gate.map.weight"].T + of["gate.bias"]
    return 1 / (1 + torch.exp(-scores))


def defined_attention(
    module: nn.Module, config: MixerChoice, x: Tensor, mask: Tensor | None, at: Surroundings
) -> Tensor:
    assert isinstance(module, Attention)
    assert isinstance(config, AttentionConfig)
    width, n, causal = config.width(at), x.shape[1], at.causal
    weight = dict(module.named_parameters())[
        "qkv.projection.weight" if config.score == "wma" else "qkv.weight"
    ]
    rows = x @ weight.T
    if isinstance(module.qkv, WeightedProjection):
        per_head = [
            rows[..., a * width : (a + 1) * width] @ m.T
            for a, m in enumerate(torch.split(module.qkv.matrices.weight, width))
        ]
        rows = torch.cat([*per_head, rows[..., config.num_heads * width :]], dim=-1)
    if isinstance(module.convolution, HeadConvolution):
        rows = head_convolution_reference(rows, module.convolution.kernel, causal=causal, mask=mask)
    counts = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
    parts = torch.split(rows, [count * width for count in counts], dim=-1)
    q, k, v = (
        part.reshape(*x.shape[:2], count, width).transpose(1, 2)
        for part, count in zip(parts, counts, strict=True)
    )
    q, k = module.rotary(normed(q, module.q_norm)), module.rotary(normed(k, module.k_norm))
    bias = score_bias_of(module, n, at)
    gamma = -config.clipped_softmax / config.keys_read(at)
    if isinstance(config, SlidingWindowConfig):
        y = sliding_window_reference(
            q, k, v, window=config.window, causal=causal, bias=bias, mask=mask, gamma=gamma
        )
    else:
        y = softmax_reference(q, k, v, causal=causal, bias=bias, mask=mask, gamma=gamma)
    gated = y.transpose(1, 2) * gate_of(module, config.gated_attention, x)[..., None]
    return gated.flatten(2) @ module.get_parameter("out.weight").T


def defined_gated_conv(
    module: nn.Module, config: MixerChoice, x: Tensor, mask: Tensor | None, at: Surroundings
) -> Tensor:
    assert isinstance(module, GatedConv)
    parts = tuple(x @ weight.T for weight in module.get_parameter("input.weight").chunk(1 + module.gates))
    y = gated_conv_reference(parts, module.kernel, module.bias, causal=at.causal, mask=mask)
    return y @ module.get_parameter("out.weight").T


def defined_pool(
    module: nn.Module, config: MixerChoice, x: Tensor, mask: Tensor | None, at: Surroundings
) -> Tensor:
    assert isinstance(module, Pool)
    return pool_reference(x, module.width, module.gain, causal=at.causal, mask=mask)


def softmax(heads: int, groups: int, **options: Any) -> MixerChoice:
    return SoftmaxConfig(num_heads=heads, num_kv_heads=groups, **options)


def windowed(heads: int, groups: int, window: int, **options: Any) -> MixerChoice:
    return SlidingWindowConfig(num_heads=heads, num_kv_heads=groups, window=window, **options)


EVERYTHING: dict[str, Any] = {
    "clipped_softmax": 12, "gated_attention": "per_token", "qkv_dconv": 3, "score": "wma",
}  # fmt: skip
CASES: list[tuple[MixerChoice, Definition]] = [
    (softmax(4, 4), defined_attention),
    (softmax(4, 2), defined_attention),
    (softmax(6, 1), defined_attention),
    (windowed(4, 2, 8), defined_attention),
    (windowed(4, 4, 7), defined_attention),
    (windowed(4, 1, 140), defined_attention),
    (GatedConvConfig(width=3, gates=1), defined_gated_conv),
    (GatedConvConfig(width=4, gates=2), defined_gated_conv),
    (PoolConfig(width=5), defined_pool),
]
FLAGGED: list[MixerChoice] = [
    softmax(4, 2, head_width=5, qk_norm=True),
    softmax(4, 2, clipped_softmax=8),
    softmax(4, 4, gated_attention="per_head", qkv_dconv=5),
    softmax(4, 1, gated_attention="per_token_full", score="wma"),
    softmax(4, 2, **EVERYTHING),
    windowed(4, 2, 4, qkv_dconv=3, head_width=2),
    windowed(4, 4, 5, **EVERYTHING),
    windowed(4, 1, 140, **EVERYTHING),
]
EVERY = [(*case, position) for case in CASES for position in ("none", *sorted(case[0].positions))]
EVERY += [(config, defined_attention, position) for config in FLAGGED for position in ("rope", "t5_bias")]


@pytest.mark.parametrize(
    ("config", "definition", "position"),
    EVERY,
    ids=lambda value: getattr(value, "kind", value if isinstance(value, str) else ""),
)
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both_ways"])
def test_module_equals_its_definition(
    config: MixerChoice, definition: Definition, position: str, causal: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    at = Surroundings(
        d_model=D_MODEL, context_length=CONTEXT, num_layers=1, causal=causal, position=POSITIONS[position]()
    )
    module = config.build(at).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator)
    for child in module.modules():
        if child is not module and isinstance(child, Scheduled):
            child.set_progress(1.0)
    for tokens, is_padded in ((1, False), (10, False), (10, True)):
        x = torch.randn(2, tokens, D_MODEL, generator=generator, dtype=torch.float64, requires_grad=True)
        mask = torch.rand(2, tokens, generator=generator) < 0.7 if is_padded else None
        fast, slow = module(x, mask), definition(module, config, x, mask, at)
        torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
        direction = torch.randn(fast.shape, generator=generator, dtype=torch.float64)
        inputs = [x, *module.parameters()]
        gradients = (torch.autograd.grad((y * direction).sum(), inputs) for y in (fast, slow))
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
