"""Softmax attention: multi-head, grouped-query or multi-query.

    q = x W_q   k = x W_k   v = x W_v        query head a reads key/value head floor(a G / H)
    y = concat_a( softmax(q_a k_a^T / sqrt(h) + bias) v_a ) W_o,   h = d_model / H

Source: Vaswani et al. 2017, arXiv:1706.03762; grouped queries: Ainslie et al. 2023, arXiv:2305.13245. W_q,
W_k, W_v are one weight, in this order.
"""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ..choice import Mixer, MixerChoice, Padding, Surroundings
from ..errors import InvalidArchitectureError
from ..kernels.attention import ScoreBias, attention, merge_heads, split_heads
from ..positions.rope import Rotary
from ..projection import linear, residual_linear
from ..roles import ParameterRole


class SoftmaxConfig(MixerChoice):
    """`num_kv_heads` = `num_heads`: multi-head; 1: multi-query; between: grouped."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "exact"
    positions: ClassVar[frozenset[str]] = frozenset({"rope", "alibi"})
    order_aware: ClassVar[bool] = False
    has_probabilities: ClassVar[bool] = True

    kind: Literal["softmax"] = "softmax"
    num_heads: int = Field(ge=1, le=256, description="Query heads; divides the model width.")
    num_kv_heads: int = Field(ge=1, le=256, description="Key and value heads; divides num_heads.")

    def check(self, d_model: int) -> None:
        if d_model % self.num_heads:
            raise InvalidArchitectureError(
                f"softmax: num_heads={self.num_heads} does not divide d_model={d_model}; choose a divisor"
            )
        if self.num_heads % self.num_kv_heads:
            raise InvalidArchitectureError(
                f"softmax: num_kv_heads={self.num_kv_heads} does not divide num_heads={self.num_heads}; "
                "choose a divisor"
            )

    def build(self, surroundings: Surroundings) -> "Softmax":
        self.check(surroundings.d_model)
        return Softmax(self.num_heads, self.num_kv_heads, surroundings)

    def matrices(self, d_model: int) -> tuple[tuple[int, int], ...]:
        return ((d_model, d_model + 2 * self._kv_width(d_model)), (d_model, d_model))

    def params(self, d_model: int) -> int:
        return 2 * d_model * (d_model + self._kv_width(d_model))

    def macs(self, d_model: int, tokens: int, *, causal: bool) -> int:
        """Projections and the full square of scores; a mask saves nothing."""
        return tokens * self.params(d_model) + 2 * d_model * tokens**2

    def macs_causal(self, d_model: int, tokens: int) -> int:
        """The permitted pairs only."""
        return tokens * self.params(d_model) + d_model * tokens * (tokens + 1)

    def state_size(self, d_model: int, tokens: int) -> int:
        """Keys and values of every token seen."""
        return 2 * self._kv_width(d_model) * tokens

    def activation_size(self, d_model: int, tokens: int, *, causal: bool) -> int:
        """Queries, keys and values beside the input, later beside all scores: the explicit form."""
        return tokens * (d_model + 2 * self._kv_width(d_model) + max(d_model, self.num_heads * tokens))

    def _kv_width(self, d_model: int) -> int:
        return d_model // self.num_heads * self.num_kv_heads


class Softmax(Mixer):
    """Positions by rotation or distance penalty where the model has them."""

    def __init__(self, num_heads: int, num_kv_heads: int, surroundings: Surroundings) -> None:
        super().__init__()
        d, length = surroundings.d_model, surroundings.context_length
        self.num_heads, self.num_kv_heads, self.head_width = num_heads, num_kv_heads, d // num_heads
        self.qkv = linear(d, (num_heads + 2 * num_kv_heads) * self.head_width)
        self.out = residual_linear(d, d, surroundings.num_layers)
        self.rotary = Rotary(length, self.head_width) if surroundings.position == "rope" else nn.Identity()
        heads = num_heads if surroundings.position == "alibi" else 0
        self.bias = ScoreBias(length, causal=surroundings.causal, alibi_heads=heads)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        rows = tuple(
            self.head_width * count for count in (self.num_heads, self.num_kv_heads, self.num_kv_heads)
        )
        return {
            "qkv.weight": ParameterRole("mixer.in", parts=rows),
            "out.weight": ParameterRole("mixer.out"),
        }

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
