"""Softmax attention inside a window.

    causal: query i reads keys j with i - w < j <= i        both ways: |i - j| <= floor(w / 2)

Source: Beltagy et al. 2020, arXiv:2004.05150; causal form: Jiang et al. 2023, arXiv:2310.06825. Projections
as `softmax`.

The module cuts the tokens into blocks; a block reads itself and its neighbours, so that the work grows with
the window and not with the square of the tokens:

    keys:      | previous | own | (next) |        causal: 2 w per query, both ways: 3 floor(w / 2)
    queries:              | own |
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..choice import LinearMap, Mixer, MixerChoice, Padding, Surroundings
from ..errors import InvalidArchitectureError
from ..gene import HEAD_WIDTH, KV_HEADS, WINDOW, LayerGene
from ..kernels.attention import (
    FORBIDDEN,
    ScoreBias,
    attention,
    attention_explicit,
    merge_heads,
    pair_bias,
    split_heads,
)
from ..positions.alibi import alibi_slopes
from ..positions.rope import Rotary
from ..projection import read, write
from .softmax import SoftmaxConfig


class SlidingWindowConfig(MixerChoice):
    """A window that covers the context is the same as `softmax` and becomes it in canonical form."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "exact"
    positions: ClassVar[frozenset[str]] = frozenset({"rope", "alibi"})
    order_aware: ClassVar[bool] = False
    has_probabilities: ClassVar[bool] = True
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "num_heads": HEAD_WIDTH, "num_kv_heads": KV_HEADS, "window": WINDOW,
    }  # fmt: skip

    kind: Literal["sliding_window"] = "sliding_window"
    num_heads: int = Field(ge=1, le=256, description="Query heads; divides the model width.")
    num_kv_heads: int = Field(ge=1, le=256, description="Key and value heads; divides num_heads.")
    window: int = Field(
        ge=1,
        le=1_048_576,
        description="Tokens a causal query reads, itself included; both ways: half to each side.",
    )

    def check(self, at: Surroundings) -> None:
        if at.d_model % self.num_heads:
            raise InvalidArchitectureError(
                f"sliding_window: num_heads={self.num_heads} does not divide d_model={at.d_model}; "
                "choose a divisor"
            )
        if self.num_heads % self.num_kv_heads:
            raise InvalidArchitectureError(
                f"sliding_window: num_kv_heads={self.num_kv_heads} does not divide "
                f"num_heads={self.num_heads}; choose a divisor"
            )

    def canonical(self, at: Surroundings) -> MixerChoice:
        n = at.context_length
        covers = self.window >= n if at.causal else self.window // 2 >= n - 1
        return SoftmaxConfig(num_heads=self.num_heads, num_kv_heads=self.num_kv_heads) if covers else self

    def build(self, at: Surroundings) -> "SlidingWindow":
        self.check(at)
        return SlidingWindow(self.num_heads, self.num_kv_heads, self.window, at)

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        kv = self._kv_width(at)
        return (LinearMap(at.d_model, (at.d_model, kv, kv)), LinearMap(at.d_model, (at.d_model,)))

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """Every score the form computes, with masked ones and the filled last block.

        The form is chosen for the context length a model is built for.
        """
        return 2 * at.d_model * self._scores(at, tokens)

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        """The permitted pairs only."""
        w = min(self.window, tokens)
        return 2 * at.d_model * (tokens * w - w * (w - 1) // 2)

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        """One query against the keys of its window."""
        return 2 * at.d_model * min(self.window, tokens + 1)

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """Keys and values of the last `window` tokens."""
        return 2 * self._kv_width(at) * min(self.window, tokens)

    def _is_banded(self, at: Surroundings) -> bool:
        n = at.context_length
        return _band_scores(n, self.window, causal=at.causal) < n**2

    def _scores(self, at: Surroundings, tokens: int) -> int:
        banded = self._is_banded(at)
        return _band_scores(tokens, self.window, causal=at.causal) if banded else tokens**2

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Queries beside the keys and values each block reads, and all scores of the form that runs."""
        d_model, causal = at.d_model, at.causal
        kv = self._kv_width(at)
        projected = tokens * (d_model + 2 * kv)
        if not self._is_banded(at):
            return projected + tokens * max(d_model, self.num_heads * tokens)
        block, reads = _blocks(self.window, causal=causal)
        padded = -(-tokens // block) * block
        gathered = padded * (d_model + 2 * reads * kv)
        scores = self.num_heads * _band_scores(tokens, self.window, causal=causal)
        return max(projected + padded * d_model, gathered + max(padded * kv, scores))

    def reach(self, at: Surroundings) -> int:
        return min(at.context_length, self.window - 1 if at.causal else self.window // 2)

    def _kv_width(self, at: Surroundings) -> int:
        return at.d_model // self.num_heads * self.num_kv_heads


def _blocks(window: int, *, causal: bool) -> tuple[int, int]:
    """Queries per block, and how many blocks of keys each reads."""
    return (window, 2) if causal else (max(1, window // 2), 3)


def _band_scores(tokens: int, window: int, *, causal: bool) -> int:
    """Scores per head of the banded form."""
    block, reads = _blocks(window, causal=causal)
    return -(-tokens // block) * reads * block**2


class SlidingWindow(Mixer):
    """Banded where that is less work for a full context, else the masked square."""

    band: Tensor

    def __init__(self, num_heads: int, num_kv_heads: int, window: int, at: Surroundings) -> None:
        super().__init__()
        d, length, causal = at.d_model, at.context_length, at.causal
        self.num_heads, self.num_kv_heads, self.head_width = num_heads, num_kv_heads, d // num_heads
        self.blocks = _blocks(window, causal=causal)
        kv = num_kv_heads * self.head_width
        self.qkv = read(at, (d, kv, kv), "mixer.in")
        self.out = write(at, d, "mixer.out")
        self.rotary = Rotary(length, self.head_width) if at.position.kind == "rope" else nn.Identity()
        heads = num_heads if at.position.kind == "alibi" else 0
        is_banded = _band_scores(length, window, causal=causal) < length**2
        slopes = alibi_slopes(heads).float() if heads else None
        band = band_bias(window, causal=causal, slopes=slopes)
        self.register_buffer("band", band if is_banded else band[:, :0], persistent=False)
        square = ScoreBias(length, causal=causal, alibi_heads=heads, window=window)
        self.bias = None if is_banded else square

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        heads, groups = self.num_heads, self.num_kv_heads
        projected = split_heads(self.qkv(x), heads + 2 * groups)
        unturned, v = torch.split(projected, [heads + groups, groups], dim=1)
        q, k = torch.split(self.rotary(unturned), [heads, groups], dim=1)
        if self.bias is not None:
            attended = attention(q, k, v, self.bias, mask)
        else:
            attended = banded(q, k, v, self.band, self.blocks, mask)
        mixed: Tensor = self.out(merge_heads(attended))
        return mixed


def band_bias(
    window: int, *, causal: bool, slopes: Float[Tensor, " heads"] | None = None
) -> Float[Tensor, "heads_or_1 block keys"]:
    """Score bias of a block of queries against the keys it reads."""
    block, reads = _blocks(window, causal=causal)
    query, key = torch.arange(block), torch.arange(reads * block) - block
    return pair_bias(query[:, None] - key[None, :], causal=causal, slopes=slopes, window=window)


def banded(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch groups tokens width"],
    v: Float[Tensor, "batch groups tokens width"],
    band: Float[Tensor, "heads_or_1 block keys"],
    blocks: tuple[int, int],
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch heads tokens width"]:
    """Attended values, all blocks at once; `blocks`: queries in one, and how many of keys each reads."""
    n = q.shape[2]
    block, reads = blocks
    exists = torch.ones_like(q[:1, :1, :, :1]) if mask is None else mask[:, None, :, None].to(q.dtype)
    q, k, v, exists = (_in_blocks(part, block) for part in (q, k, v, exists))
    k, v, exists = (_with_neighbours(part, reads) for part in (k, v, exists))
    absent = (1.0 - exists.transpose(-1, -2)) * FORBIDDEN
    attended = attention_explicit(q, k, v, band + absent, has_empty_rows=mask is not None)
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
    slopes: Float[Tensor, " heads"] | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch heads tokens width"]:
    """The definition: the full square of scores, pairs outside the window masked."""
    num_heads, n, width = q.shape[1:]
    k, v = (part.repeat_interleave(num_heads // part.shape[1], dim=1) for part in (k, v))
    behind = torch.arange(n)[:, None] - torch.arange(n)[None, :]
    inside = (behind >= 0) & (behind < window) if causal else behind.abs() <= window // 2
    permitted = inside[None, None] if mask is None else inside[None, None] & mask[:, None, None, :]
    scores = torch.einsum("bhik,bhjk->bhij", q, k) / math.sqrt(width)
    if slopes is not None:
        scores = scores - slopes[:, None, None] * behind.abs()
    weights = torch.softmax(scores.masked_fill(~permitted, -math.inf), dim=-1).nan_to_num(0.0)
    return torch.einsum("bhij,bhjv->bhiv", weights, v)
