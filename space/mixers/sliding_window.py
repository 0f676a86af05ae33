"""Softmax attention inside a window.

    causal: query i reads keys j with i - w < j <= i        both ways: |i - j| <= floor(w / 2)

Source: Beltagy et al. 2020, arXiv:2004.05150; causal form: Jiang et al. 2023, arXiv:2310.06825. Projections
and optional parts as `softmax`.

The module cuts the tokens into blocks; a block reads itself and its neighbours, so that the work grows with
the window and not with the square of the tokens:

    keys:      | previous | own | (next) |        causal: 2 w per query, both ways: 3 floor(w / 2)
    queries:              | own |
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..choice import MixerChoice, State, Surroundings
from ..gene import WINDOW, LayerGene
from ..kernels.attention import (
    CACHED_NUMBERS,
    FORBIDDEN,
    ScoreBias,
    absent_tokens,
    attention,
    attention_explicit,
    attention_to_kept,
)
from ..kernels.dispatch import fused
from ..mixing.attention import ATTENTION_GENES, Attention, AttentionConfig
from .softmax import SoftmaxConfig


class SlidingWindowConfig(AttentionConfig):
    """A window that covers the context is the same as `softmax` and becomes it in canonical form."""

    genes: ClassVar[Mapping[str, LayerGene]] = {**ATTENTION_GENES, "window": WINDOW}

    kind: Literal["sliding_window"] = "sliding_window"
    window: int = Field(
        ge=1,
        le=1_048_576,
        description="Tokens a causal query reads, itself included; both ways: half to each side.",
    )

    def canonical(self, at: Surroundings) -> MixerChoice:
        n, plain = at.context_length, self.plain(at)
        if self.window >= n if at.causal else self.window // 2 >= n - 1:
            return SoftmaxConfig(**plain.options())
        if at.causal or self.window % 2 == 0 or self.window == 1:
            return plain
        return plain.model_copy(update={"window": self.window - 1})

    def build(self, at: Surroundings) -> "SlidingWindow":
        self.check(at)
        return SlidingWindow(self, at)

    def pairs(self, at: Surroundings, tokens: int) -> int:
        """Every score the form computes, with masked ones and the filled last block.

        The form is chosen for the context length a model is built for.
        """
        return band_pairs(tokens, self.window, causal=at.causal) if self.is_banded(at) else tokens**2

    def pairs_causal(self, at: Surroundings, tokens: int) -> int:
        w = min(self.window, tokens)
        return tokens * w - w * (w - 1) // 2

    def pairs_decode(self, at: Surroundings, tokens: int) -> int:
        return min(self.window, tokens + 1)

    def kept_tokens(self, at: Surroundings, tokens: int) -> int:
        return min(self.window, tokens)

    def is_banded(self, at: Surroundings) -> bool:
        """The banded form is less work than the masked square over a full context."""
        n = at.context_length
        return band_pairs(n, self.window, causal=at.causal) < n**2

    def attending_size(self, at: Surroundings, tokens: int) -> int:
        """Queries beside the keys and values each block reads, and all scores of the form that runs."""
        queries, keys, values = self.parts(at)
        projected = tokens * (queries + keys + values)
        if not self.is_banded(at):
            return projected + tokens * max(queries, self.num_heads * tokens)
        block, reads = blocks_of(self.window, causal=at.causal)
        padded = -(-tokens // block) * block
        gathered = padded * (queries + reads * (keys + values))
        scores = self.num_heads * band_pairs(tokens, self.window, causal=at.causal)
        return max(projected + padded * queries, gathered + max(padded * values, scores))

    def keys_read(self, at: Surroundings) -> int:
        widest = self.window if at.causal else 2 * (self.window // 2) + 1
        return min(at.context_length, widest)

    def pair_reach(self, at: Surroundings) -> int:
        return self.window - 1 if at.causal else self.window // 2


def blocks_of(window: int, *, causal: bool) -> tuple[int, int]:
    """Queries per block, and how many blocks of keys each reads."""
    return (window, 2) if causal else (max(1, window // 2), 3)


def band_pairs(tokens: int, window: int, *, causal: bool) -> int:
    """Scores per head of the banded form."""
    block, reads = blocks_of(window, causal=causal)
    return -(-tokens // block) * reads * block**2


class SlidingWindow(Attention):
    """Banded where that is less work for a full context, else the masked square; keeps the last window."""

    band: Tensor | None

    def __init__(self, config: SlidingWindowConfig, at: Surroundings) -> None:
        super().__init__(config, at)
        self.blocks = blocks_of(config.window, causal=at.causal)
        self.kept = min(config.window, at.context_length)
        self.is_banded = config.is_banded(at)
        # the banded form needs no square of biases, only the function that fills one
        length = 1 if self.is_banded else None
        self.bias = ScoreBias(at, config.num_heads, window=config.window, length=length)
        keeps = self.is_banded and self._has_constant_band()
        self.register_buffer("band", self._band() if keeps else None, persistent=False)

    def attend(
        self,
        q: Float[Tensor, "batch heads tokens width"],
        k: Float[Tensor, "batch groups tokens width"],
        v: Float[Tensor, "batch groups tokens width"],
        mask: Bool[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch heads tokens width"]:
        if (run := fused("window_attention", q, k, v, unless=self.unfused(mask, self.bias))) is not None:
            attended: Tensor = run(q, k, v, *self.bias.seen(q.shape[2]), self.gamma)
            return attended
        if not self.is_banded:
            return attention(q, k, v, self.bias, mask, self.clip)
        band = self._band() if self.band is None else self.band
        return banded(q, k, v, band, self.blocks, mask, self.clip)

    def empty_cache(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        keys, values = absent_tokens(
            batch_size, self.num_kv_heads, self.kept, self.head_width, dtype=dtype, device=device
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
        keys = torch.cat([state["keys"][:, :, 1:], k], dim=2)
        values = torch.cat([state["values"][:, :, 1:], v], dim=2)
        row = self._row(position.device)
        return attention_to_kept(q, keys, values, row, self.clip), {"keys": keys, "values": values}

    def cache_of(
        self, k: Float[Tensor, "batch groups tokens width"], v: Float[Tensor, "batch groups tokens width"]
    ) -> State:
        b, n = k.shape[0], k.shape[2]
        before = self.empty_cache(b, dtype=k.dtype, device=k.device)
        return {
            "keys": torch.cat([before["keys"], k], dim=2)[:, :, n:],
            "values": torch.cat([before["values"], v], dim=2)[:, :, n:],
        }

    def _row(self, device: torch.device) -> Float[Tensor, "heads_or_1 1 kept"] | None:
        """Bias of the last token and those kept, which always stand equally far behind it."""
        if self.bias.relative is None:
            return None
        if self.band is not None:
            return self.band[:, -1:, self.kept :]
        if self.bias.cached is not None:
            return self.bias.cached[:, self.kept - 1 : self.kept, : self.kept]
        kept = torch.arange(self.kept, device=device)
        return self.bias.row(kept[-1], kept)

    def _has_constant_band(self) -> bool:
        block, reads = self.blocks
        relative = self.bias.relative
        if relative is None:
            return reads * block**2 <= CACHED_NUMBERS
        return relative.is_constant and self.num_heads * reads * block**2 <= CACHED_NUMBERS

    def _band(self) -> Float[Tensor, "heads_or_1 block keys"]:
        return band_bias(self.bias, self.blocks, next(self.parameters()).device)


def band_bias(
    bias: ScoreBias, blocks: tuple[int, int], device: torch.device | None = None
) -> Float[Tensor, "heads_or_1 block keys"]:
    """Score bias of a block of queries against the keys it reads."""
    block, reads = blocks
    query = torch.arange(block, device=device)
    return bias.between(query, torch.arange(reads * block, device=device) - block)


def banded(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch groups tokens width"],
    v: Float[Tensor, "batch groups tokens width"],
    band: Float[Tensor, "heads_or_1 block keys"],
    blocks: tuple[int, int],
    mask: Bool[Tensor, "batch tokens"] | None = None,
    clip: nn.Module | None = None,
) -> Float[Tensor, "batch heads tokens width"]:
    """Attended values, all blocks at once; `blocks`: queries in one, and how many of keys each reads."""
    n = q.shape[2]
    block, reads = blocks
    exists = torch.ones_like(q[:1, :1, :, :1]) if mask is None else mask[:, None, :, None].to(q.dtype)
    q, k, v, exists = (_in_blocks(part, block) for part in (q, k, v, exists))
    k, v, exists = (_with_neighbours(part, reads) for part in (k, v, exists))
    absent = (1.0 - exists.transpose(-1, -2)) * FORBIDDEN
    attended = attention_explicit(q, k, v, band + absent, has_empty_rows=mask is not None, clip=clip)
    return attended.transpose(1, 2).flatten(2, 3)[:, :, :n]


def _in_blocks(
    part: Float[Tensor, "batch heads tokens width"], block: int
) -> Float[Tensor, "batch blocks heads block width"]:
    """Tokens cut into blocks, the last one filled up with zeros."""
    b, heads, n, width = part.shape
    padded = functional.pad(part, (0, 0, 0, (-n) % block))
    return padded.reshape(b, heads, -1, block, width).transpose(1, 2)


def _with_neighbours(
    part: Float[Tensor, "batch blocks heads block width"], reads: int
) -> Float[Tensor, "batch blocks heads keys width"]:
    """Each block behind the one before it and, when `reads` is 3, in front of the one after it."""
    nothing = torch.zeros_like(part[:, :1])
    around = [torch.cat([nothing, part[:, :-1]], dim=1), part]
    if reads == 3:
        around.append(torch.cat([part[:, 1:], nothing], dim=1))
    return torch.cat(around, dim=3)


def sliding_window_reference(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch groups tokens width"],
    v: Float[Tensor, "batch groups tokens width"],
    *,
    window: int,
    causal: bool,
    bias: Float[Tensor, "heads tokens tokens"] | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
    gamma: float = 0.0,
) -> Float[Tensor, "batch heads tokens width"]:
    """The definition: the full square of scores, pairs outside the window masked; `gamma` as in `softmax`."""
    num_heads, n, width = q.shape[1:]
    k, v = (part.repeat_interleave(num_heads // part.shape[1], dim=1) for part in (k, v))
    behind = torch.arange(n)[:, None] - torch.arange(n)[None, :]
    inside = (behind >= 0) & (behind < window) if causal else behind.abs() <= window // 2
    permitted = inside[None, None] if mask is None else inside[None, None] & mask[:, None, None, :]
    scores = torch.einsum("bhik,bhjk->bhij", q, k) / math.sqrt(width)
    if bias is not None:
        scores = scores + bias
    weights = torch.softmax(scores.masked_fill(~permitted, -math.inf), dim=-1).nan_to_num(0.0)
    clipped = ((1.0 - gamma) * weights + gamma).clamp(0.0, 1.0)
    return torch.einsum("bhij,bhjv->bhiv", clipped, v)
