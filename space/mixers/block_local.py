"""Attention inside blocks of equal size; nothing crosses a border.

    keys:     | 0 1 2 | 3 4 5 | 6 7 .        shift:   0 | 1 2 3 | 4 5 6 | 7 . .
    queries:  | 0 1 2 | 3 4 5 | 6 7 .                 0 | 1 2 3 | 4 5 6 | 7 . .

    softmax        P = softmax(q k^T / sqrt(h) + bias)           y = concat_a(P v) W_o
    relu, relu2    P = max(q k^T / sqrt(h) + bias, 0)^(1 or 2)   y = rms(concat_a(P v)) W_o,
                   rms(u) = u / sqrt(mean(u^2) + 1e-8) over all heads together

The first block of the shifted partition has floor(w / 2) tokens, so that borders of one layer lie inside the
blocks of the next. Source: Qin et al. 2022, arXiv:2210.10340 (TransNormer, DiagAttention); causal blocks are
masked before the softmax. Projections and optional parts: `mixing.attention`.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..choice import MixerChoice, State, Surroundings, off
from ..errors import InvalidArchitectureError
from ..gene import WINDOW, LayerGene
from ..kernels.attention import (
    FORBIDDEN,
    ScoreBias,
    absent_tokens,
    attention_explicit,
    attention_to_kept,
    is_absent,
)
from ..kernels.blocks import absence, existing, from_blocks, in_blocks
from ..mixing.attention import ATTENTION_GENES, Attention, AttentionConfig
from .softmax import SoftmaxConfig

EPS = 1e-8
Weights = Literal["softmax", "relu", "relu2"]


class BlockLocalConfig(AttentionConfig):
    """A block that covers the context is `softmax`; the partition starts at the first slot, padded or not."""

    positional_by_slot: ClassVar[bool] = True
    genes: ClassVar[Mapping[str, LayerGene]] = {
        **ATTENTION_GENES,
        "window": WINDOW,
        "weights": LayerGene(
            "block_weights", ("softmax",), "Attention weights in a block: softmax, or rectified scores.",
            values=("softmax", "relu", "relu2"), rare=True,
        ),
        "shift": LayerGene(
            "shift", (False, True), "Block borders moved by half a block, so that layers differ in them."
        ),
    }  # fmt: skip

    kind: Literal["block_local"] = "block_local"
    window: int = Field(ge=1, le=1_048_576, description="Tokens of a block.")
    weights: Weights = off("softmax", description="relu and relu2 are not normalised; an RMS norm follows.")
    shift: bool = off(False, description="The first block has half the tokens.")

    @classmethod
    def snapped(cls, values: dict[str, Any], at: Surroundings) -> dict[str, Any]:
        clipped = values.get("clipped_softmax", 0) if values.get("weights", "softmax") == "softmax" else 0
        return super().snapped({**values, "clipped_softmax": clipped}, at)

    def check(self, at: Surroundings) -> None:
        super().check(at)
        if self.clipped_softmax and self.weights != "softmax":
            raise InvalidArchitectureError(
                f"block_local: clipped_softmax={self.clipped_softmax} clips probabilities, and weights "
                f"'{self.weights}' are none; choose weights 'softmax' or clipped_softmax 0"
            )

    def canonical(self, at: Surroundings) -> MixerChoice:
        plain, n = self.plain(at), at.context_length
        assert isinstance(plain, BlockLocalConfig)
        if plain.shift and plain.window == 1:
            plain = plain.model_copy(update={"shift": False})
        if (plain.window // 2 if plain.shift else plain.window) < n:
            return plain
        if plain.weights == "softmax":
            return SoftmaxConfig(**plain.options())
        return plain.model_copy(update={"shift": False, "window": n})

    def build(self, at: Surroundings) -> "BlockLocal":
        self.check(at)
        return BlockLocal(self, at)

    @property
    def front(self) -> int:
        """Empty places before the first token."""
        return self.window - self.window // 2 if self.shift and self.window > 1 else 0

    def pairs(self, at: Surroundings, tokens: int) -> int:
        """Whole blocks, filled or not."""
        return self._places(tokens) * self.window

    def pairs_causal(self, at: Surroundings, tokens: int) -> int:
        first = min(tokens, self.window - self.front)
        blocks, rest = divmod(tokens - first, self.window)
        return sum(m * (m + 1) // 2 for m in (first, rest)) + blocks * self.window * (self.window + 1) // 2

    def pairs_decode(self, at: Surroundings, tokens: int) -> int:
        """Every place of the current block, filled or not."""
        return self.window

    def kept_tokens(self, at: Surroundings, tokens: int) -> int:
        """Every place of the current block, filled or not."""
        return self.window

    def attending_size(self, at: Surroundings, tokens: int) -> int:
        """Queries, keys and values, copied where blocks have empty places, beside all scores."""
        places = self._places(tokens)
        return blocked_size(self, at, tokens, places, self.num_heads * places * self.window)

    def keys_read(self, at: Surroundings) -> int:
        return min(at.context_length, self.window)

    def pair_reach(self, at: Surroundings) -> int:
        return self.window - 1

    def seen(self, at: Surroundings, place: int) -> tuple[int, int]:
        """The borders of its block, and what the convolution reads beyond them."""
        first = (place + self.front) // self.window * self.window - self.front
        spread = self.spread(at)
        last = place if at.causal else min(at.context_length - 1, first + self.window - 1 + spread)
        return max(0, first - spread), last

    def _places(self, tokens: int) -> int:
        return -(-(tokens + self.front) // self.window) * self.window


def blocked_size(config: AttentionConfig, at: Surroundings, tokens: int, places: int, scores: int) -> int:
    """Peak of live numbers of an attention form that puts tokens into `places` places."""
    queries, keys, values = config.parts(at)
    attending = places * (queries + keys + values) + max(places * queries, scores)
    if places == tokens:
        return attending
    first = tokens * (queries + keys + values) + places * queries
    second = tokens * (keys + values) + places * (queries + keys)
    third = tokens * values + places * (queries + keys + values)
    return max(first, second, third, attending)


class BlockLocal(Attention):
    """Keeps the places of the current block; those after the newest token are absent."""

    def __init__(self, config: BlockLocalConfig, at: Surroundings) -> None:
        super().__init__(config, at)
        self.window, self.front = config.window, config.front
        self.power = {"softmax": 0, "relu": 1, "relu2": 2}[config.weights]
        self.bias = ScoreBias(at, config.num_heads, length=config.window)

    def attend(
        self,
        q: Float[Tensor, "batch heads tokens width"],
        k: Float[Tensor, "batch groups tokens width"],
        v: Float[Tensor, "batch groups tokens width"],
        mask: Bool[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch heads tokens width"]:
        attended = attention_in_blocks(
            q, k, v, self.bias, self.window, front=self.front, mask=mask, clip=self.clip, power=self.power
        )
        return unit_rms(attended).to(v.dtype) if self.power else attended

    def empty_cache(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        keys, values = absent_tokens(
            batch_size, self.num_kv_heads, self.window, self.head_width, dtype=dtype, device=device
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
        place = torch.arange(self.window, device=position.device)
        own = (position + self.front) % self.window
        _, nothing = absent_tokens(1, 1, 1, 1, dtype=v.dtype, device=v.device)
        is_new, is_past = (place == own)[:, None], (place < own)[:, None]
        keys = torch.where(is_new, k, state["keys"])
        values = torch.where(is_new, v, torch.where(is_past, state["values"], nothing))
        row = None if self.bias.relative is None else self.bias.row(own, place)
        kept = {"keys": keys, "values": values}
        if not self.power:
            return attention_to_kept(q, keys, values, row, self.clip), kept
        absent = torch.where(is_absent(values), FORBIDDEN, 0.0)
        bias = absent if row is None else row + absent
        return unit_rms(rectified(q, keys, values, bias, self.power)).to(v.dtype), kept

    def cache_of(
        self, k: Float[Tensor, "batch groups tokens width"], v: Float[Tensor, "batch groups tokens width"]
    ) -> State:
        filled = self.front + k.shape[2]
        open_from = filled - filled % self.window
        before = self.empty_cache(k.shape[0], dtype=k.dtype, device=k.device)
        kept = {}
        for name, part in (("keys", k), ("values", v)):
            empty = before[name]
            places = torch.cat([empty[:, :, : self.front], part, empty], dim=2)
            kept[name] = places[:, :, open_from : open_from + self.window]
        return kept


def attention_in_blocks(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch groups tokens width"],
    v: Float[Tensor, "batch groups tokens width"],
    bias: ScoreBias,
    block: int,
    *,
    front: int = 0,
    mask: Bool[Tensor, "batch tokens"] | None = None,
    clip: nn.Module | None = None,
    power: int = 0,
) -> Float[Tensor, "batch heads tokens width"]:
    """Attended values, all blocks at once; `power` 0: softmax, else of the rectified scores."""
    queries, keys, values = (in_blocks(part, block, front) for part in (q, k, v))
    added = None if bias.is_empty else bias(queries)
    if (
        mask is not None or front or not bias.causal
    ):  # else empty places come after every query of their block
        absent = absence(in_blocks(existing(k, mask), block, front))
        added = absent if added is None else added + absent
    if power:
        attended = rectified(queries, keys, values, added, power)
    else:
        attended = attention_explicit(
            queries, keys, values, added, has_empty_rows=mask is not None, clip=clip
        )
    return from_blocks(attended, q, front)


def rectified(
    q: Float[Tensor, "*axes heads queries width"],
    k: Float[Tensor, "*axes groups keys width"],
    v: Float[Tensor, "*axes groups keys width"],
    bias: Float[Tensor, "..."] | None,
    power: int,
) -> Float[Tensor, "*axes heads queries width"]:
    """Values weighted by positive scores to a power, in float32 at least: sums of squares are large."""
    axes, (groups, keys) = q.shape[:-3], k.shape[-3:-1]
    heads, queries, width = q.shape[-3:]
    if q.dtype in (torch.float16, torch.bfloat16):
        q, k, v = q.float(), k.float(), v.float()
    scores = (q.reshape(*axes, groups, -1, width) @ k.transpose(-1, -2)) * k.shape[-1] ** -0.5
    scores = scores.reshape(*axes, heads, queries, keys)
    weights = functional.relu(scores if bias is None else scores + bias) ** power
    mixed = weights.reshape(*axes, groups, -1, keys) @ v
    return mixed.reshape(*axes, heads, queries, width)


def unit_rms(heads: Float[Tensor, "batch heads tokens width"]) -> Float[Tensor, "batch heads tokens width"]:
    """All heads of a token together over their root mean square.

    Divided by the largest number first, which changes nothing but keeps squares finite.
    """
    largest = heads.detach().abs().amax(dim=(1, 3), keepdim=True).clamp(min=1.0)
    scaled = heads / largest
    mean = scaled.square().mean(dim=(1, 3), keepdim=True)
    return scaled * torch.rsqrt(mean + EPS / largest.square())


def block_local_reference(
    q: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch groups tokens width"],
    v: Float[Tensor, "batch groups tokens width"],
    *,
    window: int,
    causal: bool,
    shift: bool = False,
    weights: Weights = "softmax",
    bias: Float[Tensor, "heads tokens tokens"] | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
    gamma: float = 0.0,
) -> Float[Tensor, "batch heads tokens width"]:
    """The definition: the full square of scores, pairs of two blocks masked; `gamma` as in `softmax`."""
    num_heads, n, width = q.shape[1:]
    k, v = (part.repeat_interleave(num_heads // part.shape[1], dim=1) for part in (k, v))
    first = window // 2 if shift else 0
    block = [0 if i < first else 1 + (i - first) // window for i in range(n)]
    permitted = torch.tensor(
        [[block[i] == block[j] and (j <= i or not causal) for j in range(n)] for i in range(n)]
    )
    seen = permitted[None, None] if mask is None else permitted[None, None] & mask[:, None, None, :]
    scores = torch.einsum("bhik,bhjk->bhij", q, k) / math.sqrt(width)
    if bias is not None:
        scores = scores + bias
    if weights == "softmax":
        probabilities = torch.softmax(scores.masked_fill(~seen, -math.inf), dim=-1).nan_to_num(0.0)
        return torch.einsum("bhij,bhjv->bhiv", ((1.0 - gamma) * probabilities + gamma).clamp(0.0, 1.0), v)
    positive = scores.clamp(min=0.0).masked_fill(~seen, 0.0) ** (2 if weights == "relu2" else 1)
    mixed = torch.einsum("bhij,bhjv->bhiv", positive, v)
    rms = torch.sqrt(mixed.pow(2).transpose(1, 2).flatten(2).mean(-1) + EPS)
    return mixed / rms[:, None, :, None]
