"""Retention: linear attention whose state fades by a fixed rate per head.

    q = rot(x W_q)   k = rot(x W_k)   v = x W_v        gamma_a = 1 - 2^(-5-a),   a = 0 .. H-1
    S_t = gamma S_{t-1} + k_t v_t^T                    o_t = q_t S_t / sqrt(h)
    both ways: o_i = sum_j gamma^|i-j| (q_i . k_j) v_j / sqrt(h)
    y = (concat_a( rmsnorm(o_a) ) * silu(x W_g)) W_o

Source: Sun et al. 2023, arXiv:2307.08621; rotation as in `positions.rope`, whatever the model's position
choice. All heads share the gain of the norm, as in the code of flash-linear-attention. The form both ways is
ours.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..choice import LinearMap, Mixer, MixerChoice, Padding, State, Surroundings
from ..errors import InvalidArchitectureError
from ..gene import HEAD_WIDTH, LayerGene
from ..kernels.attention import merge_heads, split_heads
from ..kernels.dispatch import BOTH_WAYS, PADDING, fused
from ..kernels.scan import Chunks, Growth, bounded_sums, state_after, wide
from ..kernels.scan_costs import bounded_peak
from ..norms.rmsnorm import rmsnorm
from ..positions.rope import Rotary
from ..projection import read, write
from ..roles import ParameterRole

CHUNK = 128


class RetentionConfig(MixerChoice):
    """The state does not grow with the context; positions by rotation and by fading."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "masked"
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = True
    direction_aware: ClassVar[bool] = True
    has_probabilities: ClassVar[bool] = False
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "num_heads": HEAD_WIDTH,
        "value_expansion": LayerGene(
            "value_expansion", (1, 2), "Width of the values of retention over d_model.", least=1, most=2
        ),
    }

    kind: Literal["retention"] = "retention"
    num_heads: int = Field(ge=1, le=256, description="Heads; divides the model width.")
    value_expansion: Literal[1, 2] = Field(2, description="Width of values and gate over d_model.")

    def check(self, at: Surroundings) -> None:
        if at.d_model % self.num_heads:
            raise InvalidArchitectureError(
                f"retention: num_heads={self.num_heads} does not divide d_model={at.d_model}; "
                "choose a divisor"
            )

    def build(self, at: Surroundings) -> "Retention":
        self.check(at)
        return Retention(self.num_heads, self.value_expansion, at)

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        d = at.d_model
        wide = self.value_expansion * d
        return (LinearMap(d, (d, d, wide, wide)), LinearMap(wide, (d,)))

    def own_params(self, at: Surroundings) -> int:
        """The gain of the norm."""
        return self.value_expansion * at.d_model // self.num_heads

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """The whole square of every chunk, and states written and read once per token where there are many.

        Both ways, scores, writes and reads exist for each direction.
        """
        directions = 1 if at.causal else 2
        chunks = Chunks.of(at.context_length, CHUNK)
        return self._pair_macs(at, directions) * chunks.pairs(tokens) + directions * self._carried(at, tokens)

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        """Inside a chunk the permitted pairs only."""
        pairs = Chunks.of(at.context_length, CHUNK).past_pairs(tokens)
        return self._pair_macs(at, 1) * pairs + self._carried(at, tokens)

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        """Into the state and out of it."""
        return 2 * self.state_size(at, tokens)

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """One matrix per head."""
        return self.value_expansion * at.d_model**2 // self.num_heads

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input and projected parts; later the gate beside the faded sums; last the gated sums."""
        d, wide_d = at.d_model, self.value_expansion * at.d_model
        chunks = Chunks.of(at.context_length, CHUNK)
        inside = bounded_peak(
            chunks, tokens, key=d, value=wide_d, heads=self.num_heads, growth=0, ways=1 if at.causal else 2
        )
        return max(tokens * (3 * d + 2 * wide_d), tokens * wide_d + inside, tokens * (wide_d + d))

    def _pair_macs(self, at: Surroundings, directions: int) -> int:
        """Of one query with one key, all heads: scores of each direction, one value."""
        return (directions + self.value_expansion) * at.d_model

    def _carried(self, at: Surroundings, tokens: int) -> int:
        chunks = Chunks.of(at.context_length, CHUNK)
        return 0 if chunks.count == 1 else 2 * chunks.padded(tokens) * self.state_size(at, tokens)


class Retention(Mixer):
    """State and sums in float32 at least."""

    log_decay: Tensor
    past: Tensor
    ramp: Tensor

    def __init__(self, num_heads: int, value_expansion: int, at: Surroundings) -> None:
        super().__init__()
        d, wide = at.d_model, value_expansion * at.d_model
        self.num_heads, self.widths, self.causal = num_heads, (d, d, wide, wide), at.causal
        self.chunks = Chunks.of(at.context_length, CHUNK)
        self.rotary = Rotary(at.context_length, d // num_heads)
        self.input = read(at, self.widths, "mixer.in")
        self.gain = nn.Parameter(torch.ones(wide // num_heads))
        self.out = write(at, wide, "mixer.out")
        size = self.chunks.size
        self.register_buffer("past", torch.ones(size, size).tril(), persistent=False)
        self.register_buffer("log_decay", log_decays(num_heads).float(), persistent=False)
        # exponents of a chunk around its middle; decays are made of them in the type the module runs in
        self.register_buffer("ramp", torch.arange(1.0, size + 1)[:, None] - size / 2, persistent=False)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"gain": ParameterRole("norm")}

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        return self._mixed(*self._parts(x), mask)

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        wide = torch.promote_types(dtype, torch.float32)
        key, value = self.widths[0] // self.num_heads, self.widths[2] // self.num_heads
        return {"sums": self.gain.new_zeros(batch_size, self.num_heads, key, value, dtype=wide)}

    def step(
        self,
        x: Float[Tensor, "batch one d_model"],
        state: State,
        position: Int[Tensor, ""],
        mask: Bool[Tensor, "batch one"] | None = None,
    ) -> tuple[Float[Tensor, "batch one d_model"], State]:
        q, k, v, gate = self._parts(x, position)
        before = state["sums"]
        if (run := fused("faded_step", q, k, v, unless=None if mask is None else PADDING)) is not None:
            fade = self.log_decay.expand(q.shape[0], -1)
            y, after = run(q[:, :, 0], k[:, :, 0], v[:, :, 0], fade, before)
            return self._written(y[:, :, None], gate, is_cut=False), {"sums": after}
        after = self.log_decay.exp()[:, None, None] * before + k.transpose(-1, -2) * v
        if mask is not None:
            after = torch.where(mask[:, :, None, None], after, before)
        return self._written(q @ after, gate, is_cut=False), {"sums": after}

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, State]:
        q, k, v, gate = self._parts(x)
        real = torch.ones_like(k[:, :1, :, :1]) if mask is None else mask[:, None, :, None].to(k.dtype)
        whole = Chunks(1, 1)
        sums = state_after(k * real, v, self.log_decay[:, None, None] * real, whole)
        return self._mixed(q, k, v, gate, mask), {"sums": sums}

    def _parts(
        self, x: Float[Tensor, "batch tokens d_model"], start: Int[Tensor, ""] | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Turned queries and keys, values, and the gate with heads still merged."""
        turning, v, gate = self.input(x).split([2 * self.widths[0], *self.widths[2:]], dim=-1)
        turning, v = (
            split_heads(wide(part), heads)
            for part, heads in ((turning, 2 * self.num_heads), (v, self.num_heads))
        )
        q, k = self.rotary(turning, start).split(self.num_heads, dim=1)
        return q * q.shape[-1] ** -0.5, k, v, gate

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, gate: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            k = k * mask[:, None, :, None].to(k.dtype)
        if (run := fused("faded_sums", q, k, v, unless=None if self.causal else BOTH_WAYS)) is not None:
            real = torch.ones_like(k[:, :1, :, 0]) if mask is None else mask[:, None].to(k.dtype)
            return self._written(run(q, k, v, self.log_decay[:, None] * real)[0], gate, is_cut=False)
        growths = self._growths(k, mask)
        q, k, v = (self.chunks.cut(part) for part in (q, k, v))
        return self._written(bounded_sums(q, k, v, growths, self.past, self.chunks), gate)

    def _growths(self, k: Tensor, mask: Tensor | None) -> tuple[Growth, ...]:
        """Padded tokens do not fade the state; without padding the decays are constants."""
        ways = (False,) if self.causal else (False, True)
        if mask is not None:
            steps = self.chunks.cut(self.log_decay[:, None, None] * mask[:, None, :, None].to(k.dtype))
            return tuple(Growth.of(steps, is_backward=way) for way in ways)
        single = self.chunks.count == 1
        fade = self.log_decay[:, None, None] if single else self.log_decay[:, None, None, None]
        ramp, half = self.ramp, torch.exp(fade * (self.chunks.size / 2))
        tables = [torch.exp(fade * (ramp - 1.0 if way else ramp)) for way in ways]
        if single:
            tables = [table[:, : k.shape[-2]] for table in tables]
        return tuple(Growth(table, half, half, is_constant=True) for table in tables)

    def _written(self, mixed: Tensor, gate: Tensor, *, is_cut: bool = True) -> Tensor:
        normed = rmsnorm(mixed, self.gain)
        merged = self.chunks.merged(normed, gate) if is_cut else merge_heads(normed)
        y: Tensor = self.out(merged.to(gate.dtype) * functional.silu(gate))
        return y


def log_decays(num_heads: int) -> Float[Tensor, " heads"]:
    """ln gamma of every head, float64; of late heads the decay itself would round to 1."""
    return torch.log1p(-(2.0 ** -(5.0 + torch.arange(num_heads, dtype=torch.float64))))


def retention_reference(
    q: Float[Tensor, "batch heads tokens key"],
    k: Float[Tensor, "batch heads tokens key"],
    v: Float[Tensor, "batch heads tokens value"],
    log_decay: Float[Tensor, " heads"],
    *,
    causal: bool,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch heads tokens value"]:
    """The definition, token by token; the other direction without the token. q holds the scale."""
    real = torch.ones_like(q[:, 0, :, 0]) if mask is None else mask.to(q.dtype)
    forward = _recurrent(q, k, v, log_decay, real)
    if causal:
        return forward
    backward = _recurrent(q.flip(2), k.flip(2), v.flip(2), log_decay, real.flip(1)).flip(2)
    return forward + backward - (q * k).sum(-1, keepdim=True) * real[:, None, :, None] * v


def _recurrent(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, real: Tensor) -> Tensor:
    state = torch.zeros_like(k[:, :, 0, :, None] * v[:, :, 0, None, :])
    rows = []
    for t in range(q.shape[2]):
        here = real[:, t, None, None, None]
        fade = torch.exp(log_decay[:, None, None] * here)
        state = fade * state + here * torch.einsum("bhk,bhv->bhkv", k[:, :, t], v[:, :, t])
        rows.append(torch.einsum("bhk,bhkv->bhv", q[:, :, t], state))
    return torch.stack(rows, dim=2)
