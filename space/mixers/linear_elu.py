"""Linear attention with positive features of queries and keys.

    o_i = phi(q_i) A_i / (phi(q_i) . z_i + 1e-6)        A_i = sum_j phi(k_j) v_j^T      z_i = sum_j phi(k_j)
    elu1   phi(u) = elu(u / h^(1/4)) + 1
    relu   phi(u) = max(u, 0) + 0.001
    t2r    phi(u) = max(u W_a, 0) + 0.001,   W_a [h, h] trained, one per head for queries and keys

j over the past and i itself (causal), or over all tokens. Source: Katharopoulos et al. 2020,
arXiv:2006.16236; relu with its floor: Choromanski et al. 2020, arXiv:2009.14794; t2r: Kasai et al. 2021,
arXiv:2103.13076, here without bias. The scale h^(-1/4) of queries and keys is ours: it gives the temperature
softmax attention starts with; relu and t2r would lose it in the division. W_a starts at I + N(0, 0.02^2),
also ours. Rotary positions turn phi(q) and phi(k) in the numerator only; the denominator stays positive.
"""

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
from ..mixing.linear_features import elu_plus_one, mapped_reference
from ..projection import start as fill_start
from ..roles import ParameterRole

FLOOR = 1e-3
"""Keeps weights positive where all features of a query and a key miss each other."""
FeatureMap = Literal["elu1", "relu", "t2r"]


class LinearEluConfig(LinearAttentionConfig):
    """The state between tokens does not grow with the context."""

    positions: ClassVar[frozenset[str]] = frozenset({"rope"})
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "num_heads": HEAD_WIDTH,
        "feature_map": LayerGene(
            "feature_map", ("elu1",), "Features of queries and keys in linear attention.",
            values=("elu1", "relu", "t2r"), rare=True,
        ),
        "gated_attention": GATE,
        "gate_openness": GATE_OPENNESS,
    }  # fmt: skip

    kind: Literal["linear_elu"] = "linear_elu"
    feature_map: FeatureMap = off("elu1", description="elu + 1, relu, or relu of a trained map per head.")
    gated_attention: GateKind = off("none", description="Gate on the output of each head.")
    gate_openness: float = off(OPENNESS, gt=0, lt=1, description="The gate's value at the start.")

    def canonical(self, at: Surroundings) -> MixerChoice:
        """Without a gate its openness says nothing."""
        return changed(self, {"gate_openness": OPENNESS}) if self.gated_attention == "none" else self

    def gate(self) -> tuple[GateKind, float]:
        return self.gated_attention, self.gate_openness

    def build(self, at: Surroundings) -> "LinearElu":
        self.check(at)
        return LinearElu(self, at)

    def own_params(self, at: Surroundings) -> int:
        trained = at.d_model * self.width(at) if self.feature_map == "t2r" else 0
        return super().own_params(at) + trained

    def macs_beside(self, at: Surroundings, tokens: int) -> int:
        """The trained maps of queries and keys."""
        return 2 * tokens * at.d_model * self.width(at) if self.feature_map == "t2r" else 0

    def mapping_size(self, at: Surroundings) -> int:
        return (4 if self.feature_map == "t2r" else 2) * at.d_model


class LinearElu(LinearAttention):
    """Divides by the sum of weights."""

    def __init__(self, config: LinearEluConfig, at: Surroundings) -> None:
        super().__init__(config, at)
        self.feature_map, self.scale = config.feature_map, self.head_width**-0.25
        self.map = HeadMaps(self.num_heads, self.head_width) if config.feature_map == "t2r" else None

    def features(
        self, heads: Float[Tensor, "batch tokens heads2 width"], start: Int[Tensor, ""] | None
    ) -> Float[Tensor, "batch tokens heads2 width"]:
        if self.feature_map == "elu1":
            return elu_plus_one(heads * self.scale)
        return functional.relu(heads if self.map is None else self.map(heads)) + FLOOR


class HeadMaps(nn.Module):
    """One square matrix per head, for its queries and its keys."""

    def __init__(self, num_heads: int, width: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.empty(num_heads, width, width))
        fill_start(self.matrix)
        with torch.no_grad():
            self.matrix.add_(torch.eye(width))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"matrix": ParameterRole("mixer.state")}

    def forward(
        self, heads: Float[Tensor, "batch tokens heads2 width"]
    ) -> Float[Tensor, "batch tokens heads2 width"]:
        queries_and_keys = torch.cat([self.matrix, self.matrix])
        return (heads.transpose(1, 2) @ queries_and_keys.to(heads.dtype)).transpose(1, 2)


def feature_map(
    u: Float[Tensor, "*axes width"], kind: FeatureMap = "elu1", matrix: Tensor | None = None
) -> Float[Tensor, "*axes width"]:
    """The definition of phi for one head, with W_a of t2r."""
    if kind == "elu1":
        return mapped_reference(u * u.shape[-1] ** -0.25, "elu1")
    mapped = u if matrix is None else u @ matrix
    return torch.where(mapped > 0, mapped, 0.0) + FLOOR


def linear_elu_reference(
    q: Float[Tensor, "batch tokens heads width"],
    k: Float[Tensor, "batch tokens heads width"],
    v: Float[Tensor, "batch tokens heads width"],
    *,
    causal: bool,
    kind: FeatureMap = "elu1",
    matrices: Float[Tensor, "heads width width"] | None = None,
    rotary: nn.Module | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens heads width"]:
    """The definition, pair by pair; q and k before the features."""

    def phi(u: Tensor) -> Tensor:
        heads = range(u.shape[2])
        matrix = [None if matrices is None else matrices[a] for a in heads]
        return torch.stack([feature_map(u[:, :, a], kind, matrix[a]) for a in heads], dim=2)

    return linear_attention_reference(phi(q), phi(k), v, causal=causal, rotary=rotary, mask=mask)
