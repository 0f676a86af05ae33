"""What every linear attention shares: projections, features, sums over pairs, costs, decoding.

    q = x W_q   k = x W_k   v = x W_v   per head
    o_i = sum_j (phi(q_i) . phi(k_j)) v_j,   weights_i = sum_j phi(q_i) . phi(k_j)

    x --> W_qkv --> phi --> rotation --> sums over pairs --> finish --> gate --> W_o --> y
             \\        \\--> weights ------------------------/
              \\--> v ------------------/

A subclass of `LinearAttentionConfig` says how wide phi is and what it costs beside; a subclass of
`LinearAttention` what phi is and how sums become outputs. Rotation turns phi(q) and phi(k) in the sums only;
weights stay those of the unturned features. Gates on heads: `attention_parts`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from ..choice import LinearMap, Mixer, MixerChoice, Padding, State, Surroundings
from ..errors import InvalidArchitectureError
from ..gene import HEAD_WIDTH, LayerGene
from ..kernels.dispatch import fused
from ..kernels.linear_attention import HeadsRotary, PairSums, fill_up
from ..positions.rope import RopeConfig, Rotary, build_rotary
from ..projection import read, write
from .attention_parts import GateKind, build_gate

EPS = 1e-6


class LinearAttentionConfig(MixerChoice):
    """The state between tokens does not grow with the context."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "masked"
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = False
    has_probabilities: ClassVar[bool] = False
    genes: ClassVar[Mapping[str, LayerGene]] = {"num_heads": HEAD_WIDTH}
    has_weights: ClassVar[bool] = True
    """Divides by the sum of weights."""

    num_heads: int = Field(ge=1, le=256, description="Heads; divides the model width.")

    def check(self, at: Surroundings) -> None:
        if at.d_model % self.num_heads:
            raise InvalidArchitectureError(
                f"{self.kind}: num_heads={self.num_heads} does not divide d_model={at.d_model}; "
                "choose a divisor"
            )
        if "rope" in self.positions and isinstance(at.position, RopeConfig):
            at.position.check_head_width(at, self.width(at))

    def width(self, at: Surroundings) -> int:
        """Channels of one head."""
        return at.d_model // self.num_heads

    def feature_width(self, at: Surroundings) -> int:
        """Features of one query or key."""
        return self.width(at)

    def gate(self) -> tuple[GateKind, float]:
        """Which gate heads have, and how open it starts."""
        return "none", 1.0

    def sums(self, at: Surroundings) -> PairSums:
        """How the sums over pairs are computed there."""
        return PairSums(at.causal, at.context_length, self.num_heads, self.feature_width(at), self.width(at))

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        d = at.d_model
        maps = (LinearMap(d, (d, d, d)), LinearMap(d, (d,)))
        return (*maps, LinearMap(d, (self.num_heads,))) if self.gate()[0] == "per_token_full" else maps

    def own_params(self, at: Surroundings) -> int:
        """What gates have beside a map."""
        per_head = {"none": 0, "per_token": self.width(at) + 1}.get(self.gate()[0], 1)
        return self.num_heads * per_head

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """Sums over pairs as computed; sums of weights are running sums and elementwise, left out."""
        sums = self.sums(at)
        return sums.macs(tokens) + self.macs_beside(at, sums.padded(tokens)) + tokens * self._gate_macs(at)

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        """Inside a square of pairs the permitted ones only."""
        sums = self.sums(at)
        beside = self.macs_beside(at, sums.padded(tokens))
        return sums.macs_causal(tokens) + beside + tokens * self._gate_macs(at)

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        return self.sums(at).macs_decode() + self.macs_beside(at, 1) + self._gate_macs(at)

    def _gate_macs(self, at: Surroundings) -> int:
        return at.d_model if self.gate()[0] == "per_token" else 0

    def macs_beside(self, at: Surroundings, tokens: int) -> int:
        """Of features and convolutions over `tokens` tokens."""
        return 0

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """One matrix and one vector of weights per head."""
        weights = self.num_heads * self.feature_width(at) if self.has_weights else 0
        return self.sums(at).state_size() + weights

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """The largest of its stages, beside gates, which are computed first; all of them hold the values.

        Norms and rotations are counted as elementwise.
        """
        d, heads, sums = at.d_model, self.num_heads, self.sums(at)
        padded = sums.padded(tokens)
        features = 2 * heads * self.feature_width(at)
        gates = tokens * heads if self.gate()[0] in ("per_token", "per_token_full") else 0
        held = padded * (features + d)
        weights = padded * heads if self.has_weights else 0
        # queries times running sums need no more room than the sums; times one total they do
        total = 0 if at.causal else features // 2
        weighing = held + padded * features // 2 + max(total, weights) if self.has_weights else 0
        filling = 3 * d * (tokens + padded) if padded > tokens else 0
        stages = (
            4 * d * tokens,
            filling,
            padded * (self.mapping_size(at) + d),
            weighing,
            held + weights + sums.live(tokens),
            self.finishing_size(at, tokens),
        )
        return gates + max(stages)

    def mapping_size(self, at: Surroundings) -> int:
        """Peak of live numbers per token while queries and keys become features."""
        return 2 * at.d_model

    def finishing_size(self, at: Surroundings, tokens: int) -> int:
        """Peak after the sums."""
        return 0


class LinearAttention(Mixer):
    """Sums in float32 at least. Subclasses define `features`, and `finish` if it does more than divide."""

    def __init__(self, config: LinearAttentionConfig, at: Surroundings) -> None:
        super().__init__()
        d, sums = at.d_model, config.sums(at)
        self.num_heads, self.head_width = config.num_heads, config.width(at)
        self.feature_width = config.feature_width(at)
        self.has_weights, self.causal = config.has_weights, at.causal
        self.multiple = sums.padded(1)
        self.qkv = read(at, (d, d, d), "mixer.in")
        self.out = write(at, d, "mixer.out")
        self.rotary: nn.Module | None = None
        if "rope" in config.positions:
            rotary = build_rotary(replace(at, context_length=sums.slots), self.feature_width)
            self.rotary = HeadsRotary(rotary, 2 * self.num_heads) if isinstance(rotary, Rotary) else None
        self.sums = sums.build()
        self.gate = build_gate(*config.gate(), self.num_heads, self.head_width, at)

    def features(
        self, heads: Float[Tensor, "batch tokens heads2 width"], start: Int[Tensor, ""] | None
    ) -> Float[Tensor, "batch tokens heads2 features"]:
        """phi of the heads of queries, then keys; by default they stay. `start`: the first position."""
        return heads

    def finish(
        self,
        mixed: Float[Tensor, "batch tokens heads width"],
        weights: Float[Tensor, "batch tokens heads 1"] | None,
        v: Float[Tensor, "batch tokens heads width"],
    ) -> Float[Tensor, "batch tokens heads width"]:
        """Outputs of the heads from sums over pairs; `v` of the same tokens."""
        return mixed if weights is None else mixed / weights

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        return self._run(x, mask)[0]

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        device = next(self.parameters()).device
        wide = torch.promote_types(dtype, torch.float32)
        shape = (batch_size, self.num_heads, self.feature_width)
        state = {"sums": torch.zeros(*shape, self.head_width, dtype=wide, device=device)}
        if self.has_weights:
            state["keys"] = torch.zeros(*shape, dtype=wide, device=device)
        return state

    def step(
        self,
        x: Float[Tensor, "batch one d_model"],
        state: State,
        position: Int[Tensor, ""],
        mask: Bool[Tensor, "batch one"] | None = None,
    ) -> tuple[Float[Tensor, "batch one d_model"], State]:
        gate = self._gate(x)
        unturned, v = self._features(self._projected(x, 1), mask, position)
        after, weights = {}, None
        if self.has_weights:
            q, k = self._split(unturned)
            after["keys"] = state["keys"] + k[:, 0]
            weights = ((q[:, 0] * after["keys"]).sum(-1) + EPS)[:, None, :, None]
        q, k = self._split(self._turned(unturned, position))
        if (run := fused("faded_step", q, k, v)) is not None:
            read, after["sums"] = run(q[:, 0], k[:, 0], v[:, 0], None, state["sums"])
            mixed = read[:, None]
        else:
            after["sums"] = state["sums"] + k[:, 0, :, :, None] * v[:, 0, :, None, :]
            mixed = (q[:, 0, :, None, :] @ after["sums"]).transpose(1, 2)
        finished = self.finish_step(mixed, weights, v, mask, state, after)
        return self._written(finished, gate, x), after

    def finish_step(
        self,
        mixed: Float[Tensor, "batch one heads width"],
        weights: Float[Tensor, "batch one heads 1"] | None,
        v: Float[Tensor, "batch one heads width"],
        mask: Bool[Tensor, "batch one"] | None,
        state: State,
        after: State,
    ) -> Float[Tensor, "batch one heads width"]:
        """`finish` for one token; a subclass that keeps more reads it from `state`, puts it in `after`."""
        return self.finish(mixed, weights, v)

    def prefill(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> tuple[Float[Tensor, "batch tokens d_model"], State]:
        y, (k, turned, v) = self._run(x, mask)
        n = x.shape[1]
        return y, self.state_of(k[:, :n], turned[:, :n], v[:, :n])

    def state_of(
        self,
        k: Float[Tensor, "batch tokens heads features"],
        turned: Float[Tensor, "batch tokens heads features"],
        v: Float[Tensor, "batch tokens heads width"],
    ) -> State:
        """After these first tokens, from features of keys before and after rotation; 0 at padded tokens."""
        state = {"sums": turned.transpose(1, 2).transpose(-1, -2) @ v.transpose(1, 2)}
        if self.has_weights:
            state["keys"] = k.sum(dim=1)
        return state

    def _run(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Outputs; features of keys before and after rotation and values, last chunk filled up."""
        gate = self._gate(x)
        unturned, v = self._features(self._projected(x, self.multiple), mask, None)
        q, k = self._split(unturned)
        weights = self._weights(q, k) if self.has_weights else None
        turned_q, turned_k = self._split(self._turned(unturned, None))
        mixed = self.finish(self.sums(turned_q, turned_k, v), weights, v)
        return self._written(mixed, gate, x), (k, turned_k, v)

    def _projected(
        self, x: Float[Tensor, "batch tokens d_model"], multiple: int
    ) -> Float[Tensor, "batch padded heads3 width"]:
        rows: Tensor = self.qkv(x)
        if rows.dtype in (torch.float16, torch.bfloat16):
            rows = rows.float()
        if multiple > 1:
            rows = fill_up(rows, multiple, 3 * self.num_heads * self.head_width)
        b, n, _ = rows.shape
        return rows.reshape(b, n, 3 * self.num_heads, self.head_width)

    def _features(
        self,
        projected: Float[Tensor, "batch padded heads3 width"],
        mask: Bool[Tensor, "batch tokens"] | None,
        start: Int[Tensor, ""] | None,
    ) -> tuple[Tensor, Tensor]:
        """phi of queries and keys in one, and values; 0 at padded tokens."""
        heads = self.num_heads
        unmapped, v = torch.split(projected, [2 * heads, heads], dim=2)
        features = self.features(unmapped, start)
        if mask is not None:
            real = mask[:, :, None].to(features.dtype)
            if mask.shape[1] != projected.shape[1]:
                real = fill_up(real, self.multiple, 1)
            features, v = features * real[..., None], v * real[..., None]
        return features, v

    def _split(self, features: Float[Tensor, "batch padded heads2 features"]) -> tuple[Tensor, Tensor]:
        q, k = torch.split(features, [self.num_heads, self.num_heads], dim=2)
        return q, k

    def _weights(
        self,
        q: Float[Tensor, "batch padded heads features"],
        k: Float[Tensor, "batch padded heads features"],
    ) -> Float[Tensor, "batch padded heads 1"]:
        z = k.cumsum(dim=1) if self.causal else k.sum(dim=1, keepdim=True)
        # a kept last axis of one number makes ONNX Runtime add epsilon number by number
        return ((q * z).sum(-1) + EPS)[..., None]

    def _turned(self, features: Tensor, start: Int[Tensor, ""] | None) -> Tensor:
        if self.rotary is None:
            return features
        turned: Tensor = self.rotary(features, start)
        return turned

    def _gate(
        self, x: Float[Tensor, "batch tokens d_model"]
    ) -> Float[Tensor, "batch_or_1 tokens_or_1 heads 1"] | None:
        if self.gate is None:
            return None
        by_head: Tensor = self.gate(x)
        return by_head.transpose(1, 2)

    def _written(
        self,
        mixed: Float[Tensor, "batch padded heads width"],
        gate: Float[Tensor, "batch_or_1 tokens_or_1 heads 1"] | None,
        x: Float[Tensor, "batch tokens d_model"],
    ) -> Float[Tensor, "batch tokens d_model"]:
        n, d = x.shape[1], self.num_heads * self.head_width
        if gate is not None:
            mixed = (mixed[:, :n] if self.multiple > 1 else mixed) * gate
        merged = mixed.reshape(mixed.shape[0], -1, d)
        if self.multiple > 1 and gate is None:
            merged = merged[:, :n]
        y: Tensor = self.out(merged.to(x.dtype))
        return y


def changed(config: LinearAttentionConfig, changes: Mapping[str, Any]) -> LinearAttentionConfig:
    """The config with these fields; itself where they are so already."""
    new = {name: value for name, value in changes.items() if getattr(config, name) != value}
    return config.model_copy(update=new) if new else config


def linear_attention_reference(
    q: Float[Tensor, "batch tokens heads features"],
    k: Float[Tensor, "batch tokens heads features"],
    v: Float[Tensor, "batch tokens heads value"],
    *,
    causal: bool,
    rotary: nn.Module | None = None,
    weighted: bool = True,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens heads value"]:
    """The definition pair by pair, from features before rotation; `weighted` divides by the weights."""
    n = q.shape[1]

    def turn(u: Tensor) -> Tensor:
        return u if rotary is None else rotary(u.transpose(1, 2)).transpose(1, 2)

    turned_q, turned_k = turn(q), turn(k)
    rows = []
    for i in range(n):
        numerator, weight = torch.zeros_like(v[:, 0]), torch.zeros_like(v[:, 0, :, :1])
        for j in range(i + 1 if causal else n):
            real = torch.ones_like(q[:, 0, :1, :1]) if mask is None else mask[:, j, None, None].to(q.dtype)
            pair = (turned_q[:, i] * turned_k[:, j]).sum(-1, keepdim=True)
            numerator = numerator + real * pair * v[:, j]
            weight = weight + real * (q[:, i] * k[:, j]).sum(-1, keepdim=True)
        rows.append(numerator / (weight + EPS) if weighted else numerator)
    return torch.stack(rows, dim=1)
