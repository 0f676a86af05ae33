"""Softmax attention over heads: one fused form for training, one explicit form for padding and export.

    o_i = sum_j softmax_j(q_i . k_j / sqrt(h) + bias_ij) v_j

Source: Vaswani et al. 2017, arXiv:1706.03762. A query with no permitted key gives 0.
"""

from itertools import chain

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..choice import Surroundings
from ..positions.additive_bias import RelativeBias, relative_bias

FORBIDDEN = -1e30
"""Added to the score of a forbidden pair: its weight is exactly 0, and a row of them stays finite."""

CACHED_NUMBERS = 2**20
"""A bias of at most this many numbers is kept as a constant; a longer one is computed in every pass."""


class ScoreBias(nn.Module):
    """What is added to the scores before the softmax: causal mask, window, and a position choice's bias.

    All of them are functions of how far a key stands before its query. Kept as a constant while small and
    untrained: attention over 128 tokens with 4 heads of width 16 then takes 57-58 us, not 66, on one ONNX
    Runtime thread (AMD EPYC, 10th percentile of 600 runs, twice, on a shared machine).

    `window` as in `sliding_window`. `length`: most tokens that attend to each other, the context where None;
    they stand `stride` positions apart.
    """

    cached: Tensor | None

    def __init__(
        self,
        at: Surroundings,
        num_heads: int,
        *,
        window: int | None = None,
        length: int | None = None,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.causal, self.window, self.stride = at.causal, window, stride
        self.length = at.context_length if length is None else length
        self.relative = relative_bias(at, num_heads)
        rows = 1 if self.relative is None else num_heads
        self.is_small = rows * self.length**2 <= CACHED_NUMBERS
        is_constant = self.relative is None or self.relative.is_constant
        cached = self._whole().detach() if self.is_small and is_constant else None
        self.register_buffer("cached", cached, persistent=False)

    @property
    def is_empty(self) -> bool:
        return not self.causal and self.relative is None and self.window is None

    @property
    def is_plain_causal(self) -> bool:
        return self.causal and self.relative is None and self.window is None

    def forward(self, like: Float[Tensor, "*axes tokens width"]) -> Float[Tensor, "heads_or_1 tokens tokens"]:
        """Bias of query i (rows) and key j (columns) of the first tokens."""
        n = like.shape[-2]
        if self.cached is not None:
            return self.cached[:, :n, :n]
        if self.is_small and torch.onnx.is_in_onnx_export():
            return self._whole()[:, :n, :n]  # a constant once the weights are; a runtime computes it once
        return self._diagonals(like)

    def seen(self, tokens: int) -> tuple[int, int]:
        """How many tokens behind itself a query reads, and how many ahead."""
        reach = tokens if self.window is None else self.window - 1 if self.causal else self.window // 2
        return reach, 0 if self.causal else reach

    def row(
        self, position: Int[Tensor, ""], keys: Int[Tensor, " keys"]
    ) -> Float[Tensor, "heads_or_1 1 keys"]:
        """Bias of one query at `position` and keys at positions `keys`, as decoding needs it."""
        return self.between(position[None], keys)

    def between(
        self, queries: Int[Tensor, " queries"], keys: Int[Tensor, " keys"]
    ) -> Float[Tensor, "heads_or_1 queries keys"]:
        """Bias of queries and keys at these positions."""
        return self._of(queries[:, None] - keys[None, :])

    def _of(self, behind: Int[Tensor, "..."]) -> Float[Tensor, "heads_or_1 ..."]:
        return pair_bias(
            behind, causal=self.causal, relative=self.relative, window=self.window, stride=self.stride
        )

    def _whole(self) -> Float[Tensor, "heads_or_1 length length"]:
        device = None if self.relative is None else _device(self.relative)
        position = torch.arange(self.length, device=device)
        return self.between(position, position)

    def _diagonals(
        self, like: Float[Tensor, "*axes tokens width"]
    ) -> Float[Tensor, "heads_or_1 tokens tokens"]:
        """The square from one number per diagonal, whose gradient is then a sum and no scatter.

        Of the 2 n numbers number m is that of the key m positions after the query, counted around the end:
        written out n times and cut into rows of 2 n - 1, each row starts one number earlier.
        """
        n = like.shape[-2]
        m = torch.arange(2 * n, device=like.device)
        diagonals = self._of(torch.where(m < n, -m, 2 * n - m))
        rows = diagonals[:, None, :].expand(-1, n, -1).reshape(diagonals.shape[0], -1)
        return rows[:, : n * (2 * n - 1)].reshape(diagonals.shape[0], n, 2 * n - 1)[:, :, :n]


def _device(module: nn.Module) -> torch.device:
    return next(chain(module.parameters(), module.buffers())).device


def score_bias(
    n: int,
    *,
    causal: bool,
    relative: RelativeBias | None = None,
    window: int | None = None,
    device: torch.device | None = None,
) -> Float[Tensor, "heads_or_1 tokens tokens"]:
    """Bias of query i (rows) and key j (columns)."""
    position = torch.arange(n, device=device)
    return pair_bias(position[:, None] - position[None, :], causal=causal, relative=relative, window=window)


def pair_bias(
    behind: Int[Tensor, "..."],
    *,
    causal: bool,
    relative: RelativeBias | None = None,
    window: int | None = None,
    stride: int = 1,
) -> Float[Tensor, "heads_or_1 ..."]:
    """Bias of pairs whose key stands `behind` tokens before the query, tokens `stride` positions apart.

    `relative`: a position choice's part. `window` as in `sliding_window`: that many keys (causal), half of it
    to each side (both ways).
    """
    bias = torch.zeros_like(behind, dtype=torch.float32)[None]
    if relative is not None:
        bias = relative(behind * stride)
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
    clip: nn.Module | None = None,
) -> Float[Tensor, "batch heads tokens width"]:
    """Attended values; query head a reads group floor(a groups / heads); `mask` is True at real keys.

    `clip` changes the probabilities, which the fused form never shows.
    """
    if mask is not None:
        absent = torch.where(mask, 0.0, FORBIDDEN)[:, None, None, :]
        return attention_explicit(q, k, v, bias(q) + absent, has_empty_rows=True, clip=clip)
    if clip is not None or torch.onnx.is_in_onnx_export():
        return attention_explicit(q, k, v, None if bias.is_empty else bias(q), clip=clip)
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
    clip: nn.Module | None = None,
) -> Float[Tensor, "*axes heads queries width"]:
    """The same by two matrix products, the query heads of one group as rows of one product.

    `bias` broadcasts against the scores [*axes, heads, queries, keys]. With `has_empty_rows` queries all of
    whose keys are forbidden give 0. `clip` maps probabilities to weights.
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
    if clip is not None:
        weights = clip(weights)
    if has_empty_rows:
        weights = weights.masked_fill(scores <= FORBIDDEN / 2, 0.0)
    mixed = weights.to(v.dtype).reshape(*axes, groups, -1, keys) @ v
    return mixed.reshape(*axes, heads, queries, width)


def mark_absent(
    v: Float[Tensor, "batch groups tokens width"], mask: Bool[Tensor, "batch tokens"] | None
) -> Float[Tensor, "batch groups tokens width"]:
    """Values to keep, those of padded tokens filled with a number that no real value reaches.

    So keys and values are all that decoding keeps, and a kept token says itself that it is none.
    """
    if mask is None:
        return v
    return torch.where(mask[:, None, :, None], v, _absent_value(v.dtype))


def absent_tokens(
    batch_size: int, groups: int, tokens: int, width: int, *, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Keys and values [batch, groups, tokens, width] of tokens that are not there."""
    keys = torch.zeros(batch_size, groups, tokens, width, dtype=dtype, device=device)
    return keys, torch.full_like(keys, _absent_value(dtype))


def attention_to_kept(
    q: Float[Tensor, "batch heads 1 width"],
    keys: Float[Tensor, "batch groups kept width"],
    values: Float[Tensor, "batch groups kept width"],
    bias: Float[Tensor, "heads_or_1 1 kept"] | None,
    clip: nn.Module | None = None,
) -> Float[Tensor, "batch heads 1 width"]:
    """Attended values of one token; kept tokens that are marked absent have weight 0."""
    absent = torch.where(is_absent(values), FORBIDDEN, 0.0)
    bias = absent if bias is None else bias + absent
    return attention_explicit(q, keys, values, bias, has_empty_rows=True, clip=clip)


def is_absent(values: Float[Tensor, "batch groups kept width"]) -> Bool[Tensor, "batch 1 1 kept"]:
    """Which kept tokens are none."""
    return values[:, :1, None, :, 0] <= _absent_value(values.dtype)


def _absent_value(dtype: torch.dtype) -> float:
    """Finite, so that it times a weight of 0 is 0."""
    return max(FORBIDDEN, torch.finfo(dtype).min / 2)


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
