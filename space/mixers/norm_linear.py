"""Linear attention without denominator: the output is normalised instead (NormAttention of TransNormer).

    o_i = Norm( concat_a sum_j (phi(q_i) . phi(k_j)) v_j )        y = o W_o
    phi: elu, elu1 (elu + 1), silu, relu2 (max(u, 0)^2)
    Norm: simple  x / sqrt(mean(x^2) + 1e-6);  rmsnorm, with gains;  layernorm, with gains and biases

j over the past and i itself (causal), or over all tokens. The mean goes over all heads, or over one head
with `norm_per_head`, whose gains all heads share. Source: Qin et al. 2022, arXiv:2210.10340. Dividing by a
sum of weights has unbounded gradients where that sum is small; a norm has not, and phi may be negative.
Queries, keys and values start Xavier uniform with gain 2^(-1/2). Rotary positions turn phi(q) and phi(k).
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..choice import MixerChoice, Surroundings, off
from ..gene import HEAD_WIDTH, LayerGene
from ..mixing.attention import GATE, GATE_OPENNESS, OPENNESS
from ..mixing.attention_parts import GateKind
from ..mixing.linear_attention import (
    LinearAttention,
    LinearAttentionConfig,
    changed,
    linear_attention_reference,
)
from ..mixing.linear_features import Phi, mapped, mapped_reference
from ..norms.layernorm import EPS, LayerNorm
from ..norms.rmsnorm import RMSNorm
from ..projection import Dense, LowRank
from ..projection import start as fill_start

NORM_EPS = 1e-6
OutputNorm = Literal["simple", "rmsnorm", "layernorm"]


class NormLinearConfig(LinearAttentionConfig):
    """The state between tokens does not grow with the context."""

    positions: ClassVar[frozenset[str]] = frozenset({"rope"})
    has_weights: ClassVar[bool] = False
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "num_heads": HEAD_WIDTH,
        "phi": LayerGene(
            "norm_linear_phi", ("elu",), "Features of queries and keys in norm_linear.",
            values=("elu", "elu1", "silu", "relu2"),
        ),
        "norm": LayerGene(
            "norm_linear_norm", ("simple",), "What normalises the output of norm_linear.",
            values=("simple", "rmsnorm", "layernorm"), rare=True,
        ),
        "norm_per_head": LayerGene(
            "norm_per_head", (False,), "norm_linear's norm goes head by head.", rare=True
        ),
        "gated_attention": GATE,
        "gate_openness": GATE_OPENNESS,
    }  # fmt: skip

    kind: Literal["norm_linear"] = "norm_linear"
    phi: Phi = off("elu", description="Features of queries and keys.")
    norm: OutputNorm = off("simple", description="Without gains, with gains, or layer norm.")
    norm_per_head: bool = off(False, description="Statistics of each head for itself.")
    gated_attention: GateKind = off("none", description="Gate on the output of each head, behind the norm.")
    gate_openness: float = off(OPENNESS, gt=0, lt=1, description="The gate's value at the start.")

    def canonical(self, at: Surroundings) -> MixerChoice:
        """Without a gate its openness says nothing; one head is all heads."""
        changes = {"gate_openness": OPENNESS} if self.gated_attention == "none" else {}
        return changed(self, {**changes, "norm_per_head": False} if self.num_heads == 1 else changes)

    def gate(self) -> tuple[GateKind, float]:
        return self.gated_attention, self.gate_openness

    def build(self, at: Surroundings) -> "NormLinear":
        self.check(at)
        return NormLinear(self, at)

    def own_params(self, at: Surroundings) -> int:
        width = self.width(at) if self.norm_per_head else at.d_model
        return super().own_params(at) + {"simple": 0, "rmsnorm": 1, "layernorm": 2}[self.norm] * width


class NormLinear(LinearAttention):
    """The norm comes before the gate and W_o."""

    def __init__(self, config: NormLinearConfig, at: Surroundings) -> None:
        super().__init__(config, at)
        self.phi, self.norm_per_head = config.phi, config.norm_per_head
        width = self.head_width if config.norm_per_head else at.d_model
        norms = {"simple": SimpleNorm, "rmsnorm": RMSNorm, "layernorm": WideLayerNorm}
        self.norm: nn.Module = norms[config.norm](width)
        xavier(self.qkv, at.d_model)

    def features(
        self, heads: Float[Tensor, "batch tokens heads2 width"], start: Int[Tensor, ""] | None
    ) -> Float[Tensor, "batch tokens heads2 width"]:
        return mapped(heads, self.phi)

    def finish(
        self,
        mixed: Float[Tensor, "batch tokens heads width"],
        weights: Float[Tensor, "batch tokens heads 1"] | None,
        v: Float[Tensor, "batch tokens heads width"],
    ) -> Float[Tensor, "batch tokens heads width"]:
        if self.norm_per_head:
            by_head: Tensor = self.norm(mixed)
            return by_head
        b, n, heads, width = mixed.shape[0], -1, self.num_heads, self.head_width
        merged: Tensor = self.norm(mixed.reshape(b, n, heads * width))
        return merged.reshape(merged.shape[0], n, heads, width)


class SimpleNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-6): an RMS norm without gains."""

    ones: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("ones", torch.ones(width), persistent=False)

    def forward(self, x: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
        normed = x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + NORM_EPS)
        # with a gain the chain is one operator in ONNX Runtime
        return normed * self.ones if torch.onnx.is_in_onnx_export() else normed


class WideLayerNorm(LayerNorm):
    """In the type of its input, which may be wider than that of its parameters."""

    def forward(
        self, x: Float[Tensor, "*axes width"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes width"]:
        gain, bias = self.gain.to(x.dtype), self.bias.to(x.dtype)
        return functional.layer_norm(x, gain.shape, gain, bias, EPS)


@torch.no_grad()
def xavier(qkv: nn.Module, d_model: int) -> None:
    """Refills a projection of square parts: Xavier uniform with gain 2^(-1/2), factors by that deviation."""
    deviation = math.sqrt(0.5 / d_model)
    if isinstance(qkv, LowRank):
        for weight, up in zip(torch.split(qkv.down.weight, list(qkv.ranks)), qkv.up, strict=True):
            factor = (deviation**2 / weight.shape[0]) ** 0.25
            fill_start(weight, std=factor)
            fill_start(up.get_parameter("weight"), std=factor)
    elif isinstance(qkv, Dense):
        bound = math.sqrt(3.0) * deviation
        nn.init.uniform_(qkv.weight, -bound, bound)


def norm_linear_reference(
    q: Float[Tensor, "batch tokens heads width"],
    k: Float[Tensor, "batch tokens heads width"],
    v: Float[Tensor, "batch tokens heads width"],
    *,
    causal: bool,
    phi: Phi = "elu",
    norm_per_head: bool = False,
    rotary: nn.Module | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens heads width"]:
    """The definition with the simple norm, pair by pair; q and k before the features."""
    features = [mapped_reference(u, phi) for u in (q, k)]
    sums = linear_attention_reference(
        features[0], features[1], v, causal=causal, rotary=rotary, weighted=False, mask=mask
    )
    axes = (-1,) if norm_per_head else (-2, -1)
    return sums / torch.sqrt((sums**2).mean(axes, keepdim=True) + NORM_EPS)
