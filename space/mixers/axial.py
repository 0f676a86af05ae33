"""Attention along the rows and along the columns of a grid of tokens.

    rows          |i's row|            columns       i's column          sequence of columns C = 4, causal:
    . . . .                            . x . .                           row part     (i - C, i]
    x i x x                            . i . .                           column part  i, i - C, i - 2 C, ..
    . . . .                            . x . .

    sum       y = rows(x) + columns(x), each with projections of its own
    shared    y = columns_{q,k}( rows_{q,k}(v) ) W_o, one set of projections

The grid is that of an image's tokens; a sequence is laid out in rows of C tokens, the last one filled up. In
a causal model rows become a window over the last C tokens: rows with borders would never let a token see
earlier rows to the right of its own column. Two causal layers reach every past token.

Source: Ho et al. 2019, arXiv:1912.12180; shared form: Fan et al. 2023, arXiv:2309.11523 (RMT); the causal
form is ours. Biases by distance count positions of the sequence, on an image steps along the axis.
Projections and optional parts: `mixing.attention`.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from ..choice import LinearMap, Mixer, MixerChoice, State, Surroundings
from ..errors import InvalidArchitectureError
from ..gene import LayerGene
from ..kernels.attention import ScoreBias, attention_to_kept, is_absent, mark_absent, repeat_heads
from ..mixing.attention import ATTENTION_GENES, Attention, AttentionConfig
from ..mixing.attention_parts import Clip
from .axial_columns import ColumnConfig, along_columns, column_bias, down_one_column
from .block_local import BlockLocalConfig, attention_in_blocks
from .sliding_window import SlidingWindowConfig, band_bias, band_pairs, banded, blocks_of


class AxialConfig(AttentionConfig):
    """On an image the grid decides the columns."""

    positional_by_slot: ClassVar[bool] = True
    reads_grid: ClassVar[bool] = True
    genes: ClassVar[Mapping[str, LayerGene]] = {
        **ATTENTION_GENES,
        "form": LayerGene(
            "axial_form", ("sum", "shared"), "Rows and columns with two sets of projections, or one.",
            values=("sum", "shared"),
        ),
        "columns": LayerGene(
            "axial_columns", (16,), "Tokens per row of a sequence laid out as a grid.", least=1, most=65_536
        ),
    }  # fmt: skip

    kind: Literal["axial"] = "axial"
    form: Literal["sum", "shared"] = Field("sum", description="Two sets of projections, or one.")
    columns: int = Field(ge=1, le=1_048_576, description="Tokens per row of a sequence.")

    @classmethod
    def snapped(cls, values: dict[str, Any], at: Surroundings) -> dict[str, Any]:
        return super().snapped({**values, "columns": row_length(int(values["columns"]), at)}, at)

    def check(self, at: Surroundings) -> None:
        super().check(at)
        if self.columns != row_length(self.columns, at):
            raise InvalidArchitectureError(
                f"axial: columns={self.columns} is more than the context, {at.context_length}, or not the "
                f"columns of the image; choose {row_length(self.columns, at)}"
            )

    def canonical(self, at: Surroundings) -> MixerChoice:
        return self.plain(at)

    def build(self, at: Surroundings) -> Mixer:
        self.check(at)
        return AxialSum(self, at) if self.form == "sum" else AxialShared(self, at)

    def parts_of(self, at: Surroundings) -> tuple[AttentionConfig, AttentionConfig]:
        """Attention along the rows and along the columns, each with all projections."""
        options = self.options()
        columns = ColumnConfig(**options, columns=self.columns)
        if at.causal:
            return SlidingWindowConfig(**options, window=self.columns), columns
        return BlockLocalConfig(**options, window=self.columns), columns

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        if self.form == "shared":
            return super().maps(at)
        rows, columns = self.parts_of(at)
        return (*rows.maps(at), *columns.maps(at))

    def deployed_maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        if self.form == "shared":
            return super().deployed_maps(at)
        rows, columns = self.parts_of(at)
        return (*rows.deployed_maps(at), *columns.deployed_maps(at))

    def own_params(self, at: Surroundings) -> int:
        return super().own_params(at) * (2 if self.form == "sum" else 1)

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        if self.form == "shared":
            return super().mixing_macs(at, tokens)
        return sum(part.mixing_macs(at, tokens) for part in self.parts_of(at))

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        if self.form == "shared":
            return super().mixing_macs_causal(at, tokens)
        return sum(part.mixing_macs_causal(at, tokens) for part in self.parts_of(at))

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        if self.form == "shared":
            return super().mixing_macs_decode(at, tokens)
        return sum(part.mixing_macs_decode(at, tokens) for part in self.parts_of(at))

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """Rows keep the last `columns` tokens, columns all: what rows gave, where the form is shared."""
        if self.form == "sum":
            return sum(part.state_size(at, tokens) for part in self.parts_of(at))
        queries, keys, values = self.parts(at)
        convolved = max(0, self.qkv_dconv - 1) * (queries + keys + values)
        return tokens * (keys + queries) + min(tokens, self.columns) * values + convolved

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """In the sum the input waits for the columns, later the rows' output does."""
        waiting = tokens * at.d_model if self.form == "sum" else 0
        return waiting + super().activation_size(at, tokens)

    def pairs(self, at: Surroundings, tokens: int) -> int:
        """Along rows and along columns; the shared causal form always computes its rows as a band."""
        rows, columns = self.parts_of(at)
        along = band_pairs(tokens, self.columns, causal=True) if at.causal else rows.pairs(at, tokens)
        return along + columns.pairs(at, tokens)

    def pairs_causal(self, at: Surroundings, tokens: int) -> int:
        return sum(part.pairs_causal(at, tokens) for part in self.parts_of(at))

    def pairs_decode(self, at: Surroundings, tokens: int) -> int:
        return sum(part.pairs_decode(at, tokens) for part in self.parts_of(at))

    def attending_size(self, at: Surroundings, tokens: int) -> int:
        """Of the larger part. In the shared form queries and keys wait, and values are as wide as queries."""
        rows, columns = self.parts_of(at)
        if self.form == "sum":
            return max(part.attending_size(at, tokens) for part in (rows, columns))
        queries, keys, values = self.parts(at)
        places = self.columns * -(-tokens // self.columns)
        if at.causal:
            _, reads = blocks_of(self.columns, causal=True)
            scores = self.num_heads * band_pairs(tokens, self.columns, causal=True)
            along = places * (queries + reads * (keys + values)) + max(places * values, scores)
        else:
            along = rows.attending_size(at, tokens)
        waiting = tokens * (queries + keys) if at.causal or places > tokens else 0
        wide = columns.model_copy(update={"num_kv_heads": self.num_heads})
        return max(waiting + along, wide.attending_size(at, tokens))


def row_length(columns: int, at: Surroundings) -> int:
    """Tokens per row: the image's, else what is asked for, at most all tokens."""
    return at.grid[1] if at.grid and not at.causal else min(columns, at.context_length)


class AxialSum(Mixer):
    """Two attentions side by side; the state has the parts of both."""

    def __init__(self, config: AxialConfig, at: Surroundings) -> None:
        super().__init__()
        rows, columns = config.parts_of(at)
        self.rows, self.columns = rows.build(at), columns.build(at)

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        y: Tensor = self.rows(x, mask) + self.columns(x, mask)
        return y

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        return _joined(*(part.init_state(batch_size, dtype=dtype) for part in (self.rows, self.columns)))

    def step(
        self,
        x: Float[Tensor, "batch one d_model"],
        state: State,
        position: Int[Tensor, ""],
        mask: Bool[Tensor, "batch one"] | None = None,
    ) -> tuple[Float[Tensor, "batch one d_model"], State]:
        along, row_state = self.rows.step(x, _part(state, "row"), position, mask)
        down, column_state = self.columns.step(x, _part(state, "column"), position, mask)
        return along + down, _joined(row_state, column_state)

    def prefill(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> tuple[Float[Tensor, "batch tokens d_model"], State]:
        along, row_state = self.rows.prefill(x, mask)
        down, column_state = self.columns.prefill(x, mask)
        return along + down, _joined(row_state, column_state)


def _joined(rows: State, columns: State) -> State:
    named = (("row", rows), ("column", columns))
    return {f"{part}_{name}": value for part, state in named for name, value in state.items()}


def _part(state: State, part: str) -> State:
    own = f"{part}_"
    return {name.removeprefix(own): value for name, value in state.items() if name.startswith(own)}


class AxialShared(Attention):
    """Values travel along the rows, then down the columns, by the same queries and keys.

    Keeps all keys, the values of the last row, and what every token got along its row.
    """

    probability_points = ("clip", "column_clip")

    def __init__(self, config: AxialConfig, at: Surroundings) -> None:
        super().__init__(config, at)
        rows, columns = config.parts_of(at)
        assert isinstance(columns, ColumnConfig)
        alpha, self.columns = config.clipped_softmax, config.columns
        self.clip = Clip(alpha, rows.keys_read(at)) if alpha else None
        self.column_clip = Clip(alpha, columns.keys_read(at)) if alpha else None
        window = self.columns if at.causal else None
        self.row_bias = ScoreBias(at, config.num_heads, window=window, length=self.columns)
        self.column_bias = column_bias(columns, at)

    def attend(
        self,
        q: Float[Tensor, "batch heads tokens width"],
        k: Float[Tensor, "batch groups tokens width"],
        v: Float[Tensor, "batch groups tokens width"],
        mask: Bool[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch heads tokens width"]:
        return self._down(q, k, self._along(q, k, v, mask), mask)

    def prefill(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> tuple[Float[Tensor, "batch tokens d_model"], State]:
        rows, kept = self._projected(x, mask), {}
        if self.convolution is not None:
            known = torch.cat([self.init_state(x.shape[0], dtype=x.dtype)["rows"], rows], dim=1)
            rows, kept["rows"] = self.convolution.inner(known), known[:, x.shape[1] :]
        q, k, v = self._heads(rows)
        along = self._along(q, k, v, mask)
        y = self._written(self._down(q, k, along, mask), self._gate(x))
        values = mark_absent(v, mask)[:, :, -self.columns :]
        return y, {"keys": k, "values": values, "along": mark_absent(along, mask), **kept}

    def empty_cache(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        none = torch.zeros(batch_size, self.num_kv_heads, 0, self.head_width, dtype=dtype, device=device)
        along = torch.zeros(batch_size, self.num_heads, 0, self.head_width, dtype=dtype, device=device)
        return {"keys": none, "values": none, "along": along}

    def attend_next(
        self,
        q: Float[Tensor, "batch heads 1 width"],
        k: Float[Tensor, "batch groups 1 width"],
        v: Float[Tensor, "batch groups 1 width"],
        state: State,
        position: Int[Tensor, ""],
    ) -> tuple[Float[Tensor, "batch heads 1 width"], State]:
        keys = torch.cat([state["keys"], k], dim=2)
        values = torch.cat([state["values"], v], dim=2)[:, :, -self.columns :]
        row = None
        if self.row_bias.relative is not None:
            place = torch.arange(values.shape[2], device=position.device)
            row = self.row_bias.row(place[-1], place)
        own = attention_to_kept(q, keys[:, :, -self.columns :], values, row, self.clip)
        own = torch.where(is_absent(v), v[:, :1], own)  # a padded token stays marked
        along = torch.cat([state["along"], own], dim=2)
        attended = down_one_column(
            q, self._widened(keys), along, self.column_bias, self.columns, self.column_clip
        )
        return attended, {"keys": keys, "values": values, "along": along}

    def _along(
        self,
        q: Float[Tensor, "batch heads tokens width"],
        k: Float[Tensor, "batch groups tokens width"],
        v: Float[Tensor, "batch groups tokens width"],
        mask: Bool[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch heads tokens width"]:
        if self.row_bias.causal:
            blocks = blocks_of(self.columns, causal=True)
            return banded(q, k, v, band_bias(self.row_bias, blocks, q.device), blocks, mask, self.clip)
        return attention_in_blocks(q, k, v, self.row_bias, self.columns, mask=mask, clip=self.clip)

    def _down(
        self,
        q: Float[Tensor, "batch heads tokens width"],
        k: Float[Tensor, "batch groups tokens width"],
        along: Float[Tensor, "batch heads tokens width"],
        mask: Bool[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch heads tokens width"]:
        return along_columns(
            q, self._widened(k), along, self.column_bias, self.columns, mask, self.column_clip
        )

    def _widened(
        self, keys: Float[Tensor, "batch groups tokens width"]
    ) -> Float[Tensor, "batch heads tokens width"]:
        """As many key heads as there are rows' outputs, one per query head."""
        return repeat_heads(keys, self.num_heads // self.num_kv_heads)


def axial_reference(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch groups tokens width"],
    v: Float[Tensor, "batch groups tokens width"],
    *,
    part: Literal["rows", "columns"],
    columns: int,
    causal: bool,
    bias: Float[Tensor, "heads tokens tokens"] | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
    gamma: float = 0.0,
) -> Float[Tensor, "batch heads tokens width"]:
    """The definition of one part: the full square of scores, other pairs masked; `gamma` as in `softmax`."""
    num_heads, n, width = q.shape[1:]
    k, v = (heads.repeat_interleave(num_heads // heads.shape[1], dim=1) for heads in (k, v))

    def reads(i: int, j: int) -> bool:
        if part == "columns":
            return i % columns == j % columns and (j <= i or not causal)
        return i - columns < j <= i if causal else i // columns == j // columns

    permitted = torch.tensor([[reads(i, j) for j in range(n)] for i in range(n)])[None, None]
    seen = permitted if mask is None else permitted & mask[:, None, None, :]
    scores = torch.einsum("bhik,bhjk->bhij", q, k) / math.sqrt(width)
    if bias is not None:
        scores = scores + bias
    weights = torch.softmax(scores.masked_fill(~seen, -math.inf), dim=-1).nan_to_num(0.0)
    return torch.einsum("bhij,bhjv->bhiv", ((1.0 - gamma) * weights + gamma).clamp(0.0, 1.0), v)
