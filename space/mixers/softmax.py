"""Softmax attention: multi-head, grouped-query or multi-query.

    y = concat_a( softmax(q_a k_a^T / sqrt(h) + bias) v_a ) W_o

Source: Vaswani et al. 2017, arXiv:1706.03762; grouped queries: Ainslie et al. 2023, arXiv:2305.13245. W_q,
W_k, W_v are one weight, in this order. Projections and optional parts: `mixing.attention`.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..choice import State, Surroundings
from ..kernels.attention import ScoreBias, absent_tokens, attention, attention_to_kept
from ..kernels.dispatch import fused
from ..mixing.attention import Attention, AttentionConfig


class SoftmaxConfig(AttentionConfig):
    """Every token reads every token that it may; what decoding keeps grows with them."""

    kind: Literal["softmax"] = "softmax"

    def build(self, at: Surroundings) -> "Softmax":
        self.check(at)
        return Softmax(self, at)

    def pairs(self, at: Surroundings, tokens: int) -> int:
        """The full square of scores; a mask saves nothing."""
        return tokens**2

    def pairs_causal(self, at: Surroundings, tokens: int) -> int:
        return tokens * (tokens + 1) // 2

    def pairs_decode(self, at: Surroundings, tokens: int) -> int:
        return tokens + 1

    def kept_tokens(self, at: Surroundings, tokens: int) -> int:
        return tokens

    def attending_size(self, at: Surroundings, tokens: int) -> int:
        """Queries, keys and values beside all scores: the explicit form."""
        queries, keys, values = self.parts(at)
        return tokens * (keys + values + queries + max(queries, self.num_heads * tokens))


class Softmax(Attention):
    """Keeps the keys and values of all tokens."""

    def __init__(self, config: SoftmaxConfig, at: Surroundings) -> None:
        super().__init__(config, at)
        self.bias = ScoreBias(at, config.num_heads)

    def attend(
        self,
        q: Float[Tensor, "batch heads tokens width"],
        k: Float[Tensor, "batch groups tokens width"],
        v: Float[Tensor, "batch groups tokens width"],
        mask: Bool[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch heads tokens width"]:
        if (
            self.clip is not None
            and (run := fused("window_attention", q, k, v, unless=self.unfused(mask, self.bias))) is not None
        ):
            attended: Tensor = run(q, k, v, *self.bias.seen(q.shape[2]), self.gamma)
            return attended
        return attention(q, k, v, self.bias, mask, self.clip)

    def empty_cache(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        keys, values = absent_tokens(
            batch_size, self.num_kv_heads, 0, self.head_width, dtype=dtype, device=device
        )
        return {"keys": keys, "values": values}

    def attend_next(
        self,
        q: Float[Tensor, "batch heads 1 width"],
        k: Float[Tensor, "batch groups 1 width"],
        v: Float[Tensor, "batch groups 1 width"],
        state: State,
        position: Int[Tensor, ""],
    ) -> tuple[Float[Tensor, "batch heads 1 width"], State]:
        keys, values = torch.cat([state["keys"], k], dim=2), torch.cat([state["values"], v], dim=2)
        bias = self._row(position, keys)
        return attention_to_kept(q, keys, values, bias, self.clip), {"keys": keys, "values": values}

    def cache_of(
        self, k: Float[Tensor, "batch groups tokens width"], v: Float[Tensor, "batch groups tokens width"]
    ) -> State:
        return {"keys": k, "values": v}

    def _row(
        self, position: Int[Tensor, ""], keys: Float[Tensor, "batch groups kept width"]
    ) -> Float[Tensor, "heads_or_1 1 kept"] | None:
        """Bias of the last token: none is forbidden to it."""
        if self.bias.relative is None:
            return None
        kept = keys.shape[2]
        if self.bias.cached is not None:
            return self.bias.cached.index_select(1, position[None])[:, :, :kept]
        return self.bias.row(position, torch.arange(kept, device=position.device))


def softmax_reference(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch groups tokens width"],
    v: Float[Tensor, "batch groups tokens width"],
    *,
    causal: bool,
    bias: Float[Tensor, "heads tokens tokens"] | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
    gamma: float = 0.0,
) -> Float[Tensor, "batch heads tokens width"]:
    """The definition, one head and one query at a time; `gamma` of `clipped_softmax`."""
    num_heads, n, width = q.shape[1:]
    rows = []
    for a in range(num_heads):
        group = a * k.shape[1] // num_heads
        for i in range(n):
            permitted = torch.ones_like(q[:, 0, :, 0], dtype=torch.bool) if mask is None else mask.clone()
            if causal:
                permitted[:, i + 1 :] = False
            scores = torch.einsum("bk,bjk->bj", q[:, a, i], k[:, group]) / math.sqrt(width)
            if bias is not None:
                scores = scores + bias[a, i]
            scores = scores.masked_fill(~permitted, -math.inf)
            weights = torch.where(permitted, torch.softmax(scores, dim=-1), 0.0).nan_to_num(0.0)
            clipped = ((1.0 - gamma) * weights + gamma).clamp(0.0, 1.0)
            rows.append(torch.einsum("bj,bjv->bv", clipped, v[:, group]))
    return torch.stack(rows, dim=1).reshape(q.shape)
