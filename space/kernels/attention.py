"""Softmax attention over heads: one fused form for training, one explicit form for padding and export.

    o_i = sum_j softmax_j(q_i . k_j / sqrt(h) + bias_ij) v_j

Source: Vaswani et al. 2017, arXiv:1706.03762. A query with no permitted key gives 0.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..positions.alibi import alibi_slopes

FORBIDDEN = -1e30
"""Added to the score of a forbidden pair: its weight is exactly 0, and a row of them stays finite."""

CACHED_NUMBERS = 2**20
"""A bias of at most this many numbers is kept as a constant; a longer one is computed in every pass."""


class ScoreBias(nn.Module):
    """What is added to the scores before the softmax: causal mask, window, distance penalties.

    Kept as a constant while small: attention over 128 tokens with 4 heads of width 16 then takes 57-58 us,
    not 66, on one ONNX Runtime thread (AMD EPYC, 10th percentile of 600 runs, twice, on a shared machine).
    """

    slopes: Tensor | None
    cached: Tensor | None

    def __init__(
        self, context_length: int, *, causal: bool, alibi_heads: int = 0, window: int | None = None
    ) -> None:
        super().__init__()
        self.causal, self.window = causal, window
        slopes = alibi_slopes(alibi_heads).float() if alibi_heads else None
        self.register_buffer("slopes", slopes, persistent=False)
        small = max(1, alibi_heads) * context_length**2 <= CACHED_NUMBERS
        cached = score_bias(context_length, causal=causal, slopes=slopes, window=window) if small else None
        self.register_buffer("cached", cached, persistent=False)

    @property
    def is_empty(self) -> bool:
        return not self.causal and self.slopes is None and self.window is None

    @property
    def is_plain_causal(self) -> bool:
        return self.causal and self.slopes is None and self.window is None

    def forward(
        self, like: Float[Tensor, "batch heads tokens width"]
    ) -> Float[Tensor, "heads_or_1 tokens tokens"]:
        n = like.shape[2]
        if self.cached is not None:
            return self.cached[:, :n, :n]
        bias = score_bias(n, causal=self.causal, slopes=self.slopes, window=self.window, device=like.device)
        return bias.to(like.dtype)


def score_bias(
    n: int,
    *,
    causal: bool,
    slopes: Float[Tensor, " heads"] | None = None,
    window: int | None = None,
    device: torch.device | None = None,
) -> Float[Tensor, "heads_or_1 tokens tokens"]:
    """Bias of query i (rows) and key j (columns)."""
    position = torch.arange(n, device=device)
    return pair_bias(position[:, None] - position[None, :], causal=causal, slopes=slopes, window=window)


def pair_bias(
    behind: Int[Tensor, "queries keys"],
    *,
    causal: bool,
    slopes: Float[Tensor, " heads"] | None = None,
    window: int | None = None,
) -> Float[Tensor, "heads_or_1 queries keys"]:
    """Bias of pairs whose key stands `behind` positions before the query.

    `window` as in `sliding_window`: that many keys (causal), half of it to each side (both ways).
    """
    bias = torch.zeros_like(behind, dtype=torch.float32)[None]
    if slopes is not None:
        bias = -slopes[:, None, None] * behind.abs()
    if causal:
        bias = bias + torch.where(behind < 0, FORBIDDEN, 0.0)
    if window is not None:
        outside = behind >= window if causal else behind.abs() > window // 2
        bias = bias + torch.where(outside, FORBIDDEN, 0.0)
    return bias


def attention(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch groups tokens width"],
    v: Float[Tensor, "batch groups tokens width"],
    bias: ScoreBias,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch heads tokens width"]:
    """Attended values; query head a reads group floor(a groups / heads); `mask` is True at real keys."""
    if mask is not None:
        absent = (1.0 - mask[:, None, None, :].to(q.dtype)) * FORBIDDEN
        return attention_explicit(q, k, v, bias(q) + absent, has_empty_rows=True)
    if torch.onnx.is_in_onnx_export():
        return attention_explicit(q, k, v, None if bias.is_empty else bias(q))
    k, v = (repeat_heads(part, q.shape[1] // k.shape[1]) for part in (k, v))
    if bias.is_empty or bias.is_plain_causal:
        # top-left and bottom-right alignment of `is_causal` agree: there are as many queries as keys
        return functional.scaled_dot_product_attention(q, k, v, is_causal=bias.causal)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias(q)[None].to(q.dtype))


def attention_explicit(
    q: Float[Tensor, "*axes heads queries width"],
    k: Float[Tensor, "*axes groups keys width"],
    v: Float[Tensor, "*axes groups keys width"],
    bias: Float[Tensor, "..."] | None,
    *,
    has_empty_rows: bool = False,
) -> Float[Tensor, "*axes heads queries width"]:
    """The same by two matrix products, the query heads of one group as rows of one product.

    `bias` broadcasts against the scores [*axes, heads, queries, keys]. With `has_empty_rows` queries all of
    whose keys are forbidden give 0.
    """
    axes, (groups, keys) = q.shape[:-3], k.shape[-3:-1]
    heads, queries, width = q.shape[-3:]
    scores = (q.reshape(*axes, groups, -1, width) @ k.transpose(-1, -2)) * k.shape[-1] ** -0.5
    scores = scores.reshape(*axes, heads, queries, keys)
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    weights = torch.softmax(scores, dim=-1)
    if has_empty_rows:
        weights = weights.masked_fill(scores <= FORBIDDEN / 2, 0.0)
    mixed = weights.to(v.dtype).reshape(*axes, groups, -1, keys) @ v
    return mixed.reshape(*axes, heads, queries, width)


def split_heads(
    fused: Float[Tensor, "batch tokens merged"], num_heads: int
) -> Float[Tensor, "batch heads tokens width"]:
    """The channels cut into heads. Sizes come from the tensor, so that an exported graph keeps them free."""
    b, n, merged = fused.shape
    return fused.reshape(b, n, num_heads, merged // num_heads).transpose(1, 2)


def repeat_heads(
    heads: Float[Tensor, "batch groups tokens width"], times: int
) -> Float[Tensor, "batch heads tokens width"]:
    """Every key or value head `times` times in a row, so that query head a reads head floor(a / times)."""
    if times == 1:
        return heads
    return heads[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2)


def merge_heads(heads: Float[Tensor, "batch heads tokens width"]) -> Float[Tensor, "batch tokens merged"]:
    """Heads side by side, back in token order."""
    return heads.transpose(1, 2).flatten(2)
