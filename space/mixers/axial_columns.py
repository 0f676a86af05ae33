"""Attention along the columns of a grid of tokens: one part of `axial`.

    causal: i, i - C, i - 2 C, ...        both ways: all tokens of i's column

A sequence is laid out in rows of C tokens, the last one filled up.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..choice import State, Surroundings
from ..kernels.attention import ScoreBias, attention_explicit, attention_to_kept
from ..kernels.blocks import absence, existing, from_columns, in_columns
from ..mixing.attention import Attention, AttentionConfig
from .block_local import blocked_size


class ColumnConfig(AttentionConfig):
    """Attention along the columns alone: one part of `axial`, no choice of its own."""

    kind: Literal["axial_columns"] = "axial_columns"
    columns: int

    def build(self, at: Surroundings) -> "ColumnAttention":
        return ColumnAttention(self, at)

    def rows(self, tokens: int) -> int:
        return -(-tokens // self.columns)

    def pairs(self, at: Surroundings, tokens: int) -> int:
        return self.columns * self.rows(tokens) ** 2

    def pairs_causal(self, at: Surroundings, tokens: int) -> int:
        whole, rest = divmod(tokens, self.columns)
        return self.columns * whole * (whole + 1) // 2 + rest * (whole + 1)

    def pairs_decode(self, at: Surroundings, tokens: int) -> int:
        return tokens // self.columns + 1

    def kept_tokens(self, at: Surroundings, tokens: int) -> int:
        return tokens

    def attending_size(self, at: Surroundings, tokens: int) -> int:
        places = self.columns * self.rows(tokens)
        return blocked_size(self, at, tokens, places, self.num_heads * self.pairs(at, tokens))

    def keys_read(self, at: Surroundings) -> int:
        return self.rows(at.context_length)


class ColumnAttention(Attention):
    """Keeps the keys and values of all tokens; a step reads those of one column."""

    def __init__(self, config: ColumnConfig, at: Surroundings) -> None:
        super().__init__(config, at)
        self.columns = config.columns
        self.bias = column_bias(config, at)

    def attend(
        self,
        q: Float[Tensor, "batch heads tokens width"],
        k: Float[Tensor, "batch groups tokens width"],
        v: Float[Tensor, "batch groups tokens width"],
        mask: Bool[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch heads tokens width"]:
        return along_columns(q, k, v, self.bias, self.columns, mask, self.clip)

    def empty_cache(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        none = torch.zeros(batch_size, self.num_kv_heads, 0, self.head_width, dtype=dtype, device=device)
        return {"keys": none, "values": none}

    def attend_next(
        self,
        q: Float[Tensor, "batch heads 1 width"],
        k: Float[Tensor, "batch groups 1 width"],
        v: Float[Tensor, "batch groups 1 width"],
        state: State,
        position: Int[Tensor, ""],
    ) -> tuple[Float[Tensor, "batch heads 1 width"], State]:
        keys, values = torch.cat([state["keys"], k], dim=2), torch.cat([state["values"], v], dim=2)
        attended = down_one_column(q, keys, values, self.bias, self.columns, self.clip)
        return attended, {"keys": keys, "values": values}

    def cache_of(
        self, k: Float[Tensor, "batch groups tokens width"], v: Float[Tensor, "batch groups tokens width"]
    ) -> State:
        return {"keys": k, "values": v}


def column_bias(config: ColumnConfig, at: Surroundings) -> ScoreBias:
    """Between the tokens of one column: neighbours are one step apart on an image, else a whole row."""
    stride = 1 if at.grid and not at.causal else config.columns
    return ScoreBias(at, config.num_heads, length=config.rows(at.context_length), stride=stride)


def along_columns(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch groups tokens width"],
    v: Float[Tensor, "batch groups tokens width"],
    bias: ScoreBias,
    columns: int,
    mask: Bool[Tensor, "batch tokens"] | None = None,
    clip: nn.Module | None = None,
) -> Float[Tensor, "batch heads tokens width"]:
    """Attended values, all columns at once."""
    queries, keys, values = (in_columns(part, columns) for part in (q, k, v))
    added = None if bias.is_empty else bias(queries)
    if mask is not None or not bias.causal:  # else empty places come after every query of their column
        absent = absence(in_columns(existing(k, mask), columns))
        added = absent if added is None else added + absent
    attended = attention_explicit(queries, keys, values, added, has_empty_rows=mask is not None, clip=clip)
    return from_columns(attended, q)


def down_one_column(
    q: Float[Tensor, "batch heads 1 width"],
    keys: Float[Tensor, "batch groups kept width"],
    values: Float[Tensor, "batch groups kept width"],
    bias: ScoreBias,
    columns: int,
    clip: nn.Module | None = None,
) -> Float[Tensor, "batch heads 1 width"]:
    """The newest of the kept tokens, which are all, reads the tokens above it."""
    newest = keys.shape[2] - 1
    row = torch.arange(newest // columns + 1, device=keys.device)
    above = row * columns + newest % columns
    added = None if bias.relative is None else bias.row(row[-1], row)
    return attention_to_kept(q, keys[:, :, above], values[:, :, above], added, clip)
