"""Sums over pairs of tokens without a softmax: o_i = sum_j (q_i . k_j) v_j, over all j or over j <= i.

    square   o = (Q K^T * past) V                        past_ij = 1 where j <= i; all 1 both ways
    state    o = Q (K^T V)                               both ways
    chunks   o_c = (Q_c K_c^T * past) V_c + Q_c A_c      A_c = sum of K_e^T V_e over the chunks e < c

Source: Katharopoulos et al. 2020, arXiv:2006.16236; chunks: Hua et al. 2022, arXiv:2202.10447 (FLASH, section
3.2). The form is fixed by the context length, so that an exported graph has one. Tensors are [batch, tokens,
heads, width], as projections leave them: one transposition per operand, none for what is elementwise.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..positions.rope import Rotary, rotate
from .dispatch import fused

CHUNK = 32
"""64 takes 1-5 % longer in ONNX Runtime (one thread, 128 to 512 tokens, 4 heads of width 16 and 32)."""

SQUARE = 64
"""A causal context of at most this many tokens is one square: fewer operators, and hardly more work."""


@dataclass(frozen=True, slots=True)
class PairSums:
    """Which form computes the sums there, and what it costs."""

    causal: bool
    context_length: int
    num_heads: int
    key_width: int
    value_width: int

    @property
    def form(self) -> Literal["square", "state", "chunks"]:
        if self.causal:
            return "square" if self.context_length <= SQUARE else "chunks"
        widths = self.key_width + self.value_width
        return "square" if self.context_length * widths < 2 * self.key_width * self.value_width else "state"

    @property
    def slots(self) -> int:
        """Tokens of a full context with its last chunk filled up."""
        return self.padded(self.context_length)

    def padded(self, tokens: int) -> int:
        """Tokens with the last chunk filled up."""
        return -(-tokens // CHUNK) * CHUNK if self.form == "chunks" else tokens

    def macs(self, tokens: int) -> int:
        """As computed: whole squares, whole chunks."""
        widths, matrix = self.key_width + self.value_width, self.key_width * self.value_width
        if self.form == "square":
            return tokens**2 * self.num_heads * widths
        if self.form == "state":
            return tokens * self.num_heads * 2 * matrix
        return self.padded(tokens) * self.num_heads * (2 * matrix + CHUNK * widths)

    def macs_causal(self, tokens: int) -> int:
        """Inside a square the permitted pairs only."""
        widths, matrix = self.key_width + self.value_width, self.key_width * self.value_width
        if not self.causal:
            return self.macs(tokens)
        if self.form == "square":
            return tokens * (tokens + 1) // 2 * self.num_heads * widths
        padded = self.padded(tokens)
        return padded * self.num_heads * 2 * matrix + padded * (CHUNK + 1) // 2 * self.num_heads * widths

    def macs_decode(self) -> int:
        """State update and state read."""
        return 2 * self.num_heads * self.key_width * self.value_width

    def state_size(self) -> int:
        """One matrix per head."""
        return self.num_heads * self.key_width * self.value_width

    def live(self, tokens: int) -> int:
        """Most numbers alive beside queries, keys and values."""
        if self.form == "square":
            return self.num_heads * tokens**2
        if self.form == "state":
            return self.state_size()
        padded = self.padded(tokens)
        states = padded // CHUNK * self.state_size()
        return states + max(states, padded * self.num_heads * CHUNK)

    def build(self) -> nn.Module:
        """`sums(q, k, v)` over `padded` tokens, all [batch, tokens, heads, width]."""
        if self.form == "square":
            return Square(self.causal)
        if self.form == "state":
            return TotalState()
        return Chunks(self.num_heads, self.key_width, self.value_width)


class Square(nn.Module):
    """Every pair's score."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(
        self,
        q: Float[Tensor, "batch tokens heads key"],
        k: Float[Tensor, "batch tokens heads key"],
        v: Float[Tensor, "batch tokens heads value"],
    ) -> Float[Tensor, "batch tokens heads value"]:
        scores = q.transpose(1, 2) @ k.transpose(1, 2).transpose(-1, -2)
        if self.causal:
            scores = scores.tril()
        return (scores @ v.transpose(1, 2)).transpose(1, 2)


class TotalState(nn.Module):
    """Every token reads the sum over all."""

    def forward(
        self,
        q: Float[Tensor, "batch tokens heads key"],
        k: Float[Tensor, "batch tokens heads key"],
        v: Float[Tensor, "batch tokens heads value"],
    ) -> Float[Tensor, "batch tokens heads value"]:
        state = k.transpose(1, 2).transpose(-1, -2) @ v.transpose(1, 2)
        return (q.transpose(1, 2) @ state).transpose(1, 2)


class Chunks(nn.Module):
    """Causal, all chunks at once; the tokens are a multiple of `size`."""

    past: Tensor

    def __init__(self, num_heads: int, key_width: int, value_width: int, *, size: int = CHUNK) -> None:
        super().__init__()
        self.num_heads, self.key_width, self.value_width = num_heads, key_width, value_width
        self.size = size
        self.register_buffer("past", torch.ones(size, size).tril(), persistent=False)

    def forward(
        self,
        q: Float[Tensor, "batch tokens heads key"],
        k: Float[Tensor, "batch tokens heads key"],
        v: Float[Tensor, "batch tokens heads value"],
    ) -> Float[Tensor, "batch tokens heads value"]:
        if (run := fused("faded_sums", q, k, v)) is not None:
            y: Tensor = run(*(part.transpose(1, 2) for part in (q, k, v)), None)[0]
            return y.transpose(1, 2)
        q, k = (self._in_chunks(part, self.key_width) for part in (q, k))
        v = self._in_chunks(v, self.value_width)
        keys = k.transpose(-1, -2)
        # one chunk of zeros in front and none at the end: each chunk gets the sum before it
        before = functional.pad(keys @ v, (0, 0, 0, 0, 0, 0, 1, -1)).cumsum(dim=1)
        mixed = ((q @ keys) * self.past.to(q.dtype)) @ v + q @ before
        tokens_first = mixed.transpose(2, 3)
        return tokens_first.reshape(tokens_first.shape[0], -1, self.num_heads, self.value_width)

    def _in_chunks(
        self, part: Float[Tensor, "batch tokens heads width"], width: int
    ) -> Float[Tensor, "batch chunks heads size width"]:
        # constant sizes keep a dozen operators on shapes out of an exported graph
        return part.reshape(part.shape[0], -1, self.size, self.num_heads, width).transpose(2, 3)


def fill_up(
    rows: Float[Tensor, "batch tokens channels"], multiple: int, channels: int
) -> Float[Tensor, "batch padded channels"]:
    """Zeros behind the tokens up to a multiple: in a causal sum no real token sees them."""
    b, n, _ = rows.shape
    if not torch.onnx.is_in_onnx_export() and n % multiple == 0:
        return rows
    return torch.cat([rows, rows.new_zeros(b, -n % multiple, channels)], dim=1)


class HeadsRotary(nn.Module):
    """Rotation in the layout of projections, its tables written out for every head.

    The product of [tokens, heads, width] with one table for all heads takes ONNX Runtime three times as long.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, rotary: Rotary, heads: int) -> None:
        super().__init__()
        self.pairs, self.axes = rotary.pairs, rotary.axes
        self.register_buffer("cos", rotary.cos[:, None].repeat(1, heads, 1), persistent=False)
        self.register_buffer("sin", rotary.sin[:, None].repeat(1, heads, 1), persistent=False)

    def forward(
        self, heads: Float[Tensor, "batch tokens heads width"], start: Int[Tensor, ""] | None
    ) -> Float[Tensor, "batch tokens heads width"]:
        cos, sin = (rows_at(table, heads, start) for table in (self.cos, self.sin))
        return rotate(heads, cos, sin, pairs=self.pairs, axes=self.axes)


def rows_at(
    table: Float[Tensor, "slots ..."],
    heads: Float[Tensor, "batch tokens heads width"],
    start: Int[Tensor, ""] | None,
) -> Float[Tensor, "tokens ..."]:
    """The rows of the tokens of `heads`, of which the first stands at position `start`; None: 0."""
    n = heads.shape[1]
    return table[:n] if start is None else table[start + torch.arange(n, device=table.device)]


def pair_sums_reference(
    q: Float[Tensor, "batch tokens heads key"],
    k: Float[Tensor, "batch tokens heads key"],
    v: Float[Tensor, "batch tokens heads value"],
    *,
    causal: bool,
) -> Float[Tensor, "batch tokens heads value"]:
    """The definition, pair by pair."""
    n = q.shape[1]
    rows = []
    for i in range(n):
        row = torch.zeros_like(v[:, 0])
        for j in range(i + 1 if causal else n):
            row = row + (q[:, i] * k[:, j]).sum(-1, keepdim=True) * v[:, j]
        rows.append(row)
    return torch.stack(rows, dim=1)


def recurrent_reference(
    q: Float[Tensor, "batch tokens heads key"],
    k: Float[Tensor, "batch tokens heads key"],
    v: Float[Tensor, "batch tokens heads value"],
) -> Float[Tensor, "batch tokens heads value"]:
    """The causal sums as a recurrence of one matrix per head."""
    state = torch.zeros_like(k[:, 0, :, :, None] * v[:, 0, :, None, :])
    rows = []
    for t in range(q.shape[1]):
        state = state + k[:, t, :, :, None] * v[:, t, :, None, :]
        rows.append((q[:, t, :, :, None] * state).sum(-2))
    return torch.stack(rows, dim=1)
