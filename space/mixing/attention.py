"""What every softmax-type mixer shares: projections, heads, positions, optional parts, costs, decoding.

    q = x W_q   k = x W_k   v = x W_v          query head a reads key/value head floor(a G / H)

    x --> W_qkv --> M --> convolution --> q, k norm --> rotation --> attend --> gate --> W_o --> y
                  (wma)     (dconv)       (qk_norm)      (rope)         |
                                                            softmax, + bias, clip

A subclass of `AttentionConfig` says which pairs it scores and what it keeps of past tokens; a subclass of
`Attention` how q, k and v attend, all at once and one token against what is kept.

Source of the optional parts: `attention_parts`; of the norm of queries and keys: Henry et al. 2020,
arXiv:2010.04245, with an L2 norm and one scale there, an RMS norm with gains here. M stands right behind the
projection, so that it folds into W_q whatever follows.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from ..choice import LinearMap, Mixer, MixerChoice, Padding, State, Surroundings, off
from ..errors import InvalidArchitectureError
from ..gene import HEAD_WIDTH, KV_HEADS, LayerGene
from ..kernels.attention import ScoreBias, mark_absent, merge_heads, split_heads
from ..kernels.dispatch import OBSERVED, PADDING
from ..norms.rmsnorm import RMSNorm
from ..positions.rope import RopeConfig, build_rotary
from ..projection import read, write
from .attention_parts import Clip, GateKind, HeadConvolution, WeightedProjection, build_gate

OPENNESS = 0.25
GATE = LayerGene(
    "gated_attention", ("none",), "Gate on the output of each head: one number per head, or per token too.",
    values=("none", "per_head", "per_token", "per_token_full"), rare=True,
)  # fmt: skip
GATE_OPENNESS = LayerGene(
    "gate_openness", (OPENNESS,), "How open a gate on the output of a head starts.", least=0.01, most=0.99,
    rare=True,
)  # fmt: skip
ATTENTION_GENES: Mapping[str, LayerGene] = {
    "num_heads": HEAD_WIDTH,
    "num_kv_heads": KV_HEADS,
    "head_width": LayerGene(
        "own_head_width", (0,), "Channels per head whatever d_model and the heads; 0: d_model / heads.",
        least=0, most=1024, rare=True,
    ),
    "qk_norm": LayerGene("qk_norm", (False,), "RMS norm of queries and keys.", rare=True),
    "clipped_softmax": LayerGene(
        "clipped_softmax", (0,), "alpha: attention weights below about alpha / T become 0; 0: not clipped.",
        least=0, most=64, rare=True,
    ),
    "gated_attention": GATE,
    "gate_openness": GATE_OPENNESS,
    "qkv_dconv": LayerGene(
        "qkv_dconv", (0,), "Taps of a depthwise convolution of queries, keys and values: 0, 3 or 5.",
        allowed=(0, 3, 5), rare=True, independent=True,
    ),
    "score": LayerGene(
        "score", ("sdp",), "Scores q k^T, or q M k^T with a trained matrix M per head.",
        values=("sdp", "wma"), rare=True, independent=True,
    ),
}  # fmt: skip
"""Config field -> gene, for every softmax-type mixer."""


class AttentionConfig(MixerChoice):
    """`num_kv_heads` = `num_heads`: multi-head; 1: multi-query; between: grouped."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "exact"
    positions: ClassVar[frozenset[str]] = frozenset({"rope", "alibi", "t5_bias", "decay"})
    order_aware: ClassVar[bool] = False
    has_probabilities: ClassVar[bool] = True
    genes: ClassVar[Mapping[str, LayerGene]] = ATTENTION_GENES

    num_heads: int = Field(ge=1, le=256, description="Query heads; divides the model width.")
    num_kv_heads: int = Field(ge=1, le=256, description="Key and value heads; divides num_heads.")
    head_width: int = off(0, ge=0, le=1024, description="Channels per head; 0: d_model / num_heads.")
    qk_norm: bool = off(False, description="RMS norm of queries and keys before any rotation.")
    clipped_softmax: int = off(
        0, ge=0, le=64, description="alpha: clips with gamma = -alpha / T, norms queries and keys; 0: off."
    )
    gated_attention: GateKind = off("none", description="Gate on the output of each head.")
    gate_openness: float = off(OPENNESS, gt=0, lt=1, description="The gate's value at the start.")
    qkv_dconv: Literal[0, 3, 5] = off(0, description="Taps of the convolution of q, k and v; 0: none.")
    score: Literal["sdp", "wma"] = off("sdp", description="q k^T, or q M k^T with a matrix per head.")

    @classmethod
    def snapped(cls, values: dict[str, Any], at: Surroundings) -> dict[str, Any]:
        own = 0 if values.get("gated_attention") == "per_token" else values.get("head_width", 0)
        return {**values, "head_width": own}

    def check(self, at: Surroundings) -> None:
        d, heads, groups = at.d_model, self.num_heads, self.num_kv_heads
        if d % heads and not self.head_width:
            raise InvalidArchitectureError(
                f"{self.kind}: num_heads={heads} does not divide d_model={d}; "
                "choose a divisor or give head_width"
            )
        if heads % groups:
            raise InvalidArchitectureError(
                f"{self.kind}: num_kv_heads={groups} does not divide num_heads={heads}; choose a divisor"
            )
        if self.gated_attention == "per_token" and heads * self.width(at) != d:
            raise InvalidArchitectureError(
                f"{self.kind}: heads of {heads} * {self.width(at)} channels are no shares of d_model={d}, "
                "which gated_attention 'per_token' reads; choose 'per_token_full' or leave head_width out"
            )
        if isinstance(at.position, RopeConfig):
            at.position.check_head_width(at, self.width(at))

    def canonical(self, at: Surroundings) -> MixerChoice:
        """Options that say the same or nothing have one spelling; subclasses go on from here."""
        return self.plain(at)

    def plain(self, at: Surroundings) -> "AttentionConfig":
        """The same kind with its options in canonical form."""
        changes: dict[str, Any] = {}
        if self.head_width * self.num_heads == at.d_model:
            changes["head_width"] = 0
        if self.clipped_softmax:
            changes["qk_norm"] = True
        if self.gated_attention == "none":
            changes["gate_openness"] = OPENNESS
        changed = {name: value for name, value in changes.items() if getattr(self, name) != value}
        return self.model_copy(update=changed) if changed else self

    def options(self) -> dict[str, Any]:
        """The fields of this base, for another kind that computes the same."""
        return {name: getattr(self, name) for name in AttentionConfig.model_fields if name != "kind"}

    @property
    def sees_order(self) -> bool:
        """A convolution along the tokens does; windows alone do not."""
        return self.order_aware or self.qkv_dconv > 0

    @property
    def sees_direction(self) -> bool:
        """Trained taps around a token differ before and behind it."""
        return self.direction_aware or self.qkv_dconv > 0

    @property
    def has_qk_norm(self) -> bool:
        """Clipping needs bounded scores."""
        return self.qk_norm or self.clipped_softmax > 0

    def width(self, at: Surroundings) -> int:
        """Channels of one head."""
        return self.head_width or at.d_model // self.num_heads

    def parts(self, at: Surroundings) -> tuple[int, int, int]:
        """Channels of all queries, keys and values."""
        width = self.width(at)
        return width * self.num_heads, width * self.num_kv_heads, width * self.num_kv_heads

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        maps = self.deployed_maps(at)
        if self.score == "sdp":
            return maps
        width = self.width(at)
        return (*maps, LinearMap(width, (width,) * self.num_heads, projected=False))

    def deployed_maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        """M folds into W_q."""
        d, parts = at.d_model, self.parts(at)
        maps = (LinearMap(d, parts), LinearMap(parts[0], (d,)))
        return (*maps, LinearMap(d, (self.num_heads,))) if self.gated_attention == "per_token_full" else maps

    def own_params(self, at: Surroundings) -> int:
        """Gains, taps, and what gates have beside a map."""
        width = self.width(at)
        gate = {"none": 0, "per_token": width + 1}.get(self.gated_attention, 1)
        gains = 2 * width if self.has_qk_norm else 0
        return gains + self.qkv_dconv * sum(self.parts(at)) + self.num_heads * gate

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """A score and a weighted value for every pair the module scores; taps and gates."""
        return tokens * self._macs_per_token(at) + self._macs_per_pair(at) * self.pairs(at, tokens)

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        return tokens * self._macs_per_token(at) + self._macs_per_pair(at) * self.pairs_causal(at, tokens)

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        return self._macs_per_token(at) + self._macs_per_pair(at) * self.pairs_decode(at, tokens)

    def _macs_per_token(self, at: Surroundings) -> int:
        gate = at.d_model if self.gated_attention == "per_token" else 0
        return self.qkv_dconv * sum(self.parts(at)) + gate

    def _macs_per_pair(self, at: Surroundings) -> int:
        return 2 * self.num_heads * self.width(at)

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """Keys and values of the kept tokens, and the rows the convolution reads behind."""
        rows = max(0, self.qkv_dconv - 1)
        return sum(self.parts(at)[1:]) * self.kept_tokens(at, tokens) + rows * sum(self.parts(at))

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """The largest of projecting, convolving and attending, beside gates, which are computed first.

        Norms of queries and keys, and rotations, are counted as elementwise.
        """
        channels = sum(self.parts(at))
        gates = tokens * self.num_heads if self.gated_attention in ("per_token", "per_token_full") else 0
        convolving = channels * (2 * tokens + self.qkv_dconv - 1) if self.qkv_dconv else 0
        projecting = tokens * (at.d_model + channels)
        return gates + max(projecting, convolving, self.attending_size(at, tokens))

    def pairs(self, at: Surroundings, tokens: int) -> int:
        """Scores per head, as the module computes them, those of forbidden pairs too."""
        raise NotImplementedError

    def pairs_causal(self, at: Surroundings, tokens: int) -> int:
        """Permitted pairs of the causal form."""
        raise NotImplementedError

    def pairs_decode(self, at: Surroundings, tokens: int) -> int:
        """Keys that one more query after `tokens` tokens is scored with."""
        raise NotImplementedError

    def kept_tokens(self, at: Surroundings, tokens: int) -> int:
        """Tokens whose keys and values are kept between decode steps."""
        raise NotImplementedError

    def attending_size(self, at: Surroundings, tokens: int) -> int:
        """Peak of live numbers from queries, keys and values to the attended values."""
        raise NotImplementedError

    def reach(self, at: Surroundings) -> int:
        """To the furthest pair, and as far again as the convolution reads behind its key."""
        return min(at.context_length, self.pair_reach(at) + self.spread(at))

    def spread(self, at: Surroundings) -> int:
        """How far the convolution reads to one side of a key."""
        taps = self.qkv_dconv
        return 0 if not taps else taps - 1 if at.causal else taps // 2

    def pair_reach(self, at: Surroundings) -> int:
        """How far a key may stand to one side of its query."""
        return at.context_length

    def keys_read(self, at: Surroundings) -> int:
        """Most keys that one query reads: T of the clip."""
        return at.context_length


def _turns(at: Surroundings, head_width: int) -> bool:
    """Heads of this width can have the model's rotation, if it has one."""
    if head_width and isinstance(at.position, RopeConfig):
        try:
            at.position.check_head_width(at, head_width)
        except InvalidArchitectureError:
            return False
    return True


class Attention(Mixer):
    """Subclasses define `attend`, `empty_cache`, `attend_next` and `cache_of`.

    A cache holds keys and values [batch, groups, kept, width]; values of padded tokens are marked absent.
    """

    probability_points: ClassVar[tuple[str, ...]] = ("clip",)

    def __init__(self, config: AttentionConfig, at: Surroundings) -> None:
        super().__init__()
        heads, groups, width = config.num_heads, config.num_kv_heads, config.width(at)
        parts = config.parts(at)
        self.num_heads, self.num_kv_heads, self.head_width = heads, groups, width
        projection = read(at, parts, "mixer.in")
        is_weighted = config.score == "wma"
        self.qkv = WeightedProjection(projection, heads, width) if is_weighted else projection
        self.out = write(at, parts[0], "mixer.out")
        taps = config.qkv_dconv
        self.convolution = HeadConvolution(sum(parts), taps, causal=at.causal) if taps else None
        self.q_norm = RMSNorm(width) if config.has_qk_norm else None
        self.k_norm = RMSNorm(width) if config.has_qk_norm else None
        self.rotary = build_rotary(at, width)
        alpha = config.clipped_softmax
        self.clip = Clip(alpha, config.keys_read(at)) if alpha else None
        self.gate = build_gate(config.gated_attention, config.gate_openness, heads, width, at)

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        gate = self._gate(x)  # before anything large is there, so that x need not stay
        rows = self._projected(x, mask)
        q, k, v = self._heads(rows if self.convolution is None else self.convolution(rows))
        return self._written(self.attend(q, k, v, mask), gate)

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        device = next(self.parameters()).device
        state = self.empty_cache(batch_size, dtype=dtype, device=device)
        if self.convolution is not None:
            shape = batch_size, self.convolution.behind, self.convolution.channels
            state["rows"] = torch.zeros(shape, dtype=dtype, device=device)
        return state

    def step(
        self,
        x: Float[Tensor, "batch one d_model"],
        state: State,
        position: Int[Tensor, ""],
        mask: Bool[Tensor, "batch one"] | None = None,
    ) -> tuple[Float[Tensor, "batch one d_model"], State]:
        rows, kept = self._projected(x, mask), {}
        if self.convolution is not None:
            known = torch.cat([state["rows"], rows], dim=1)
            rows, kept["rows"] = self.convolution.inner(known), known[:, 1:]
        q, k, v = self._heads(rows, position)
        attended, cache = self.attend_next(q, k, mark_absent(v, mask), state, position)
        return self._written(attended, self._gate(x)), {**cache, **kept}

    def prefill(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> tuple[Float[Tensor, "batch tokens d_model"], State]:
        rows, kept = self._projected(x, mask), {}
        if self.convolution is not None:
            known = torch.cat([self.init_state(x.shape[0], dtype=x.dtype)["rows"], rows], dim=1)
            rows, kept["rows"] = self.convolution.inner(known), known[:, x.shape[1] :]
        q, k, v = self._heads(rows)
        y = self._written(self.attend(q, k, v, mask), self._gate(x))
        return y, {**self.cache_of(k, mark_absent(v, mask)), **kept}

    def attend(
        self,
        q: Float[Tensor, "batch heads tokens width"],
        k: Float[Tensor, "batch groups tokens width"],
        v: Float[Tensor, "batch groups tokens width"],
        mask: Bool[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch heads tokens width"]:
        """Attended values, with `self.clip` on the probabilities; `mask` is True at real keys."""
        raise NotImplementedError

    def unfused(self, mask: Bool[Tensor, "batch tokens"] | None, bias: ScoreBias) -> str | None:
        """Why the kernel that knows windows and clips does not attend."""
        clip = self.clip
        if mask is not None:
            return PADDING
        if bias.relative is not None:
            return "scores with a position's bias"
        return OBSERVED if clip is not None and (clip._forward_hooks or clip._forward_pre_hooks) else None

    @property
    def gamma(self) -> Float[Tensor, ""] | None:
        """Of the clip."""
        return None if self.clip is None else self.clip.gamma

    def empty_cache(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> State:
        """What is kept before any token."""
        raise NotImplementedError

    def attend_next(
        self,
        q: Float[Tensor, "batch heads 1 width"],
        k: Float[Tensor, "batch groups 1 width"],
        v: Float[Tensor, "batch groups 1 width"],
        state: State,
        position: Int[Tensor, ""],
    ) -> tuple[Float[Tensor, "batch heads 1 width"], State]:
        """The attended value of one more token, and what is kept after it (without the state's `rows`)."""
        raise NotImplementedError

    def cache_of(
        self, k: Float[Tensor, "batch groups tokens width"], v: Float[Tensor, "batch groups tokens width"]
    ) -> State:
        """What is kept after these tokens, which are the first ones."""
        raise NotImplementedError

    def _projected(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch tokens channels"]:
        """Queries, keys and values side by side, before the convolution; it reads 0 at padded tokens."""
        rows: Tensor = self.qkv(x)
        if self.convolution is not None and mask is not None:
            rows = rows * mask[..., None].to(rows.dtype)
        return rows

    def _heads(
        self, rows: Float[Tensor, "batch tokens channels"], start: Int[Tensor, ""] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values by head, normed and turned; `start`: position of the first token."""
        heads, groups = self.num_heads, self.num_kv_heads
        split = split_heads(rows, heads + 2 * groups)
        if self.q_norm is None or self.k_norm is None:
            unturned, v = torch.split(split, [heads + groups, groups], dim=1)
            q, k = torch.split(self.rotary(unturned, start), [heads, groups], dim=1)
            return q, k, v
        q, k, v = torch.split(split, [heads, groups, groups], dim=1)
        return self.rotary(self.q_norm(q), start), self.rotary(self.k_norm(k), start), v

    def _gate(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "..."] | None:
        return None if self.gate is None else self.gate(x)

    def _written(
        self,
        attended: Float[Tensor, "batch heads tokens width"],
        gate: Float[Tensor, "batch_or_1 heads tokens_or_1 1"] | None,
    ) -> Float[Tensor, "batch tokens d_model"]:
        y: Tensor = self.out(merge_heads(attended if gate is None else attended * gate))
        return y
