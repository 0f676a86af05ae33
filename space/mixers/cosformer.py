"""cosFormer: linear attention whose weights fall with distance as a cosine.

    phi(u_i) = [max(u_i, 0) sin a_i ; max(u_i, 0) cos a_i],   a_i = (pi / 2) i / M
    phi(q_i) . phi(k_j) = (max(q_i, 0) . max(k_j, 0)) cos(pi (i - j) / 2M)  >= 0
    o_i = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + 1e-6)

j over the past and i itself (causal), or over all tokens. Source: Qin et al. 2022, arXiv:2202.08791. M is the
model's context length here, whatever the input's: with M the length of the input, as published, a token would
change with those behind it. No other position choice acts inside.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from ..choice import MixerChoice, Surroundings, off
from ..gene import HEAD_WIDTH, LayerGene
from ..kernels.linear_attention import rows_at
from ..mixing.attention import GATE, GATE_OPENNESS, OPENNESS
from ..mixing.attention_parts import GateKind
from ..mixing.linear_attention import (
    LinearAttention,
    LinearAttentionConfig,
    changed,
    linear_attention_reference,
)


class CosformerConfig(LinearAttentionConfig):
    """Sees distance by itself; the state does not grow with the context."""

    fixed_length: ClassVar[bool] = True
    order_aware: ClassVar[bool] = True
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "num_heads": HEAD_WIDTH,
        "gated_attention": GATE,
        "gate_openness": GATE_OPENNESS,
    }

    kind: Literal["cosformer"] = "cosformer"
    gated_attention: GateKind = off("none", description="Gate on the output of each head.")
    gate_openness: float = off(OPENNESS, gt=0, lt=1, description="The gate's value at the start.")

    def canonical(self, at: Surroundings) -> MixerChoice:
        """Without a gate its openness says nothing."""
        return changed(self, {"gate_openness": OPENNESS}) if self.gated_attention == "none" else self

    def gate(self) -> tuple[GateKind, float]:
        return self.gated_attention, self.gate_openness

    def build(self, at: Surroundings) -> "Cosformer":
        self.check(at)
        return Cosformer(self, at)

    def feature_width(self, at: Surroundings) -> int:
        return 2 * self.width(at)

    def mapping_size(self, at: Surroundings) -> int:
        """Sines and cosines of queries and keys, and both side by side."""
        return 8 * at.d_model


class Cosformer(LinearAttention):
    """Keeps the sine and the cosine of every position of the context."""

    sine: Tensor
    cosine: Tensor

    def __init__(self, config: CosformerConfig, at: Surroundings) -> None:
        super().__init__(config, at)
        angle = angles(config.sums(at).slots, at.context_length)
        self.register_buffer("sine", angle.sin().float()[:, None, None], persistent=False)
        self.register_buffer("cosine", angle.cos().float()[:, None, None], persistent=False)

    def features(
        self, heads: Float[Tensor, "batch tokens heads2 width"], start: Int[Tensor, ""] | None
    ) -> Float[Tensor, "batch tokens heads2 width2"]:
        sine, cosine = (rows_at(table, heads, start) for table in (self.sine, self.cosine))
        positive = functional.relu(heads)
        return torch.cat([positive * sine, positive * cosine], dim=-1)


def angles(tokens: int, horizon: int) -> Float[Tensor, " tokens"]:
    """(pi / 2) i / M for i = 1, 2, ...; float64."""
    return torch.arange(1, tokens + 1, dtype=torch.float64) * (math.pi / (2 * horizon))


def cosformer_reference(
    q: Float[Tensor, "batch tokens heads width"],
    k: Float[Tensor, "batch tokens heads width"],
    v: Float[Tensor, "batch tokens heads width"],
    *,
    horizon: int,
    causal: bool,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens heads width"]:
    """The definition, pair by pair; q and k before the features."""
    angle = angles(q.shape[1], horizon).to(q.dtype)[:, None, None]

    def phi(u: Tensor) -> Tensor:
        positive = torch.where(u > 0, u, 0.0)
        return torch.cat([positive * angle.sin(), positive * angle.cos()], dim=-1)

    return linear_attention_reference(phi(q), phi(k), v, causal=causal, mask=mask)
