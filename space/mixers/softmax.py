"""Softmax attention: multi-head, grouped-query or multi-query.

    q = x W_q   k = x W_k   v = x W_v        query head a reads key/value head floor(a G / H)
    y = concat_a( softmax(q_a k_a^T / sqrt(h) + bias) v_a ) W_o,   h = d_model / H

Source: Vaswani et al. 2017, arXiv:1706.03762; grouped queries: Ainslie et al. 2023, arXiv:2305.13245. W_q,
W_k, W_v are one weight, in this order.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ..choice import LinearMap, Mixer, MixerChoice, Padding, Surroundings
from ..errors import InvalidArchitectureError
from ..gene import HEAD_WIDTH, KV_HEADS, LayerGene
from ..kernels.attention import ScoreBias, attention, merge_heads, split_heads
from ..positions.rope import Rotary
from ..projection import read, write


class SoftmaxConfig(MixerChoice):
    """`num_kv_heads` = `num_heads`: multi-head; 1: multi-query; between: grouped."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "exact"
    positions: ClassVar[frozenset[str]] = frozenset({"rope", "alibi"})
    order_aware: ClassVar[bool] = False
    has_probabilities: ClassVar[bool] = True
    genes: ClassVar[Mapping[str, LayerGene]] = {"num_heads": HEAD_WIDTH, "num_kv_heads": KV_HEADS}

    kind: Literal["softmax"] = "softmax"
    num_heads: int = Field(ge=1, le=256, description="Query heads; divides the model width.")
    num_kv_heads: int = Field(ge=1, le=256, description="Key and value heads; divides num_heads.")

    def check(self, at: Surroundings) -> None:
        if at.d_model % self.num_heads:
            raise InvalidArchitectureError(
                f"softmax: num_heads={self.num_heads} does not divide d_model={at.d_model}; choose a divisor"
            )
        if self.num_heads % self.num_kv_heads:
            raise InvalidArchitectureError(
                f"softmax: num_kv_heads={self.num_kv_heads} does not divide num_heads={self.num_heads}; "
                "choose a divisor"
            )

    def build(self, at: Surroundings) -> "Softmax":
        self.check(at)
        return Softmax(self.num_heads, self.num_kv_heads, at)

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        kv = self._kv_width(at)
        return (LinearMap(at.d_model, (at.d_model, kv, kv)), LinearMap(at.d_model, (at.d_model,)))

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """The full square of scores; a mask saves nothing."""
        return 2 * at.d_model * tokens**2

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        """The permitted pairs only."""
        return at.d_model * tokens * (tokens + 1)

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        """One query against every key."""
        return 2 * at.d_model * (tokens + 1)

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """Keys and values of every token seen."""
        return 2 * self._kv_width(at) * tokens

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Queries, keys and values beside the input, later beside all scores: the explicit form."""
        d = at.d_model
        return tokens * (d + 2 * self._kv_width(at) + max(d, self.num_heads * tokens))

    def _kv_width(self, at: Surroundings) -> int:
        return at.d_model // self.num_heads * self.num_kv_heads


class Softmax(Mixer):
    """Positions by rotation or distance penalty where the model has them."""

    def __init__(self, num_heads: int, num_kv_heads: int, at: Surroundings) -> None:
        super().__init__()
        d, length = at.d_model, at.context_length
        self.num_heads, self.num_kv_heads, self.head_width = num_heads, num_kv_heads, d // num_heads
        kv = num_kv_heads * self.head_width
        self.qkv = read(at, (d, kv, kv), "mixer.in")
        self.out = write(at, d, "mixer.out")
        self.rotary = Rotary(length, self.head_width) if at.position.kind == "rope" else nn.Identity()
        heads = num_heads if at.position.kind == "alibi" else 0
        self.bias = ScoreBias(length, causal=at.causal, alibi_heads=heads)

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        heads, groups = self.num_heads, self.num_kv_heads
        projected = split_heads(self.qkv(x), heads + 2 * groups)
        unturned, v = torch.split(projected, [heads + groups, groups], dim=1)
        q, k = torch.split(self.rotary(unturned), [heads, groups], dim=1)
        mixed: Tensor = self.out(merge_heads(attention(q, k, v, self.bias, mask)))
        return mixed


def softmax_reference(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch groups tokens width"],
    v: Float[Tensor, "batch groups tokens width"],
    *,
    causal: bool,
    slopes: Float[Tensor, " heads"] | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch heads tokens width"]:
    """The definition, one head and one query at a time."""
    num_heads, n, width = q.shape[1:]
    rows = []
    for a in range(num_heads):
        group = a * k.shape[1] // num_heads
        for i in range(n):
            permitted = torch.ones_like(q[:, 0, :, 0], dtype=torch.bool) if mask is None else mask.clone()
            if causal:
                permitted[:, i + 1 :] = False
            scores = torch.einsum("bk,bjk->bj", q[:, a, i], k[:, group]) / math.sqrt(width)
            if slopes is not None:
                scores = scores - slopes[a] * (torch.arange(n) - i).abs()
            scores = scores.masked_fill(~permitted, -math.inf)
            weights = torch.where(permitted, torch.softmax(scores, dim=-1), 0.0).nan_to_num(0.0)
            rows.append(torch.einsum("bj,bjv->bv", weights, v[:, group]))
    return torch.stack(rows, dim=1).reshape(q.shape)
