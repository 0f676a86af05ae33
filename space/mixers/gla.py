"""Gated linear attention: linear attention whose state forgets by gates that read the token.

    q = x W_q   k = x W_k   [d/2 wide each]   v = x W_v
    u = (x W_1) W_2 + b  (vector)             u = x W_1 + b  (scalar)
    log alpha_t = max( logsigmoid(u_t) / 16, -4 )
    S_t = diag(alpha_t) S_{t-1} + k_t v_t^T                   o_t = q_t S_t / sqrt(h_k)
    both ways: a second gate alpha'_t for the future; sum of both directions without the token counted twice
    y = (concat_a( rmsnorm(o_a) ) * silu(x W_g)) W_o

`gate` vector: one alpha per key channel; scalar: one per head. Source: Yang et al. 2023, arXiv:2312.06635;
scalar gates: `simple_gla` of flash-linear-attention. The form both ways is ours, and so is the limit -4,
which acts below u = -64: it keeps the chunk form of vector gates (`kernels.scan.bounded_sums`) finite.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..choice import LinearMap, Mixer, MixerChoice, Padding, State, Surroundings
from ..errors import InvalidArchitectureError
from ..gene import HEAD_WIDTH, LayerGene
from ..kernels.dispatch import BOTH_WAYS, PADDING, fused
from ..kernels.scan import (
    LARGEST_EXPONENT,
    Chunks,
    Growth,
    bounded_sums,
    past_bias,
    scalar_sums,
    state_after,
    wide,
)
from ..kernels.scan_costs import bounded_peak, scalar_peak
from ..mixing.state_space import SmallMap, log_sigmoid
from ..norms.rmsnorm import rmsnorm
from ..projection import read, write
from ..roles import ParameterRole

GATE_RANK = 16
TEMPERATURE = 16.0
VECTOR_CHUNK = 32
SCALAR_CHUNK = 128
UNCUT = Chunks(1, 1)
"""All tokens in one chunk: one token, or as many as a kernel cuts itself."""
LOG_FLOOR = -2 * LARGEST_EXPONENT / VECTOR_CHUNK


class GlaConfig(MixerChoice):
    """The state does not grow with the context; sees order by forgetting."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "masked"
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = True
    direction_aware: ClassVar[bool] = True
    has_probabilities: ClassVar[bool] = False
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "num_heads": HEAD_WIDTH,
        "gate": LayerGene(
            "gla_gate", ("vector", "scalar"), "Forgetting per key channel or per head.",
            values=("vector", "scalar"),
        ),
    }  # fmt: skip

    kind: Literal["gla"] = "gla"
    num_heads: int = Field(
        ge=1, le=256, description="Heads; keys of a head are d_model / (2 num_heads) wide."
    )
    gate: Literal["vector", "scalar"] = Field("vector", description="One gate per key channel or per head.")

    def check(self, at: Surroundings) -> None:
        if at.d_model % (2 * self.num_heads):
            raise InvalidArchitectureError(
                f"gla: 2 num_heads={2 * self.num_heads} does not divide d_model={at.d_model}; "
                "choose heads of even width"
            )

    def build(self, at: Surroundings) -> "Gla":
        self.check(at)
        return Gla(self, at)

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        d, ways = at.d_model, 1 if at.causal else 2
        keys = d // 2
        widths = (d, GATE_RANK, keys) if self.gate == "vector" else (d, self.num_heads)
        gates = tuple(
            LinearMap(inputs, (outputs,), copies=ways, active=ways, projected=False)
            for inputs, outputs in pairwise(widths)
        )
        return (LinearMap(d, (keys, keys, d, d)), *gates, LinearMap(d, (d,)))

    def own_params(self, at: Surroundings) -> int:
        """Biases of the gates and the gain of the norm."""
        gates = at.d_model // 2 if self.gate == "vector" else self.num_heads
        return gates * (1 if at.causal else 2) + at.d_model // self.num_heads

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """The whole square of every chunk, and states written and read once per token where there are many.

        Both ways, vector gates have scores for each direction.
        """
        chunks, ways = self.chunks(at), 1 if at.causal else 2
        squares = ways if self.gate == "vector" else 1
        pairs = (squares * at.d_model // 2 + at.d_model) * chunks.pairs(tokens)
        return pairs + ways * self._carried(at, tokens)

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        """Inside a chunk the permitted pairs only."""
        pairs = self.chunks(at).past_pairs(tokens)
        return 3 * at.d_model // 2 * pairs + self._carried(at, tokens)

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        """Into the state and out of it."""
        return 2 * self.state_size(at, tokens)

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """One matrix per head."""
        return at.d_model**2 // (2 * self.num_heads)

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input, projected parts and gates; later the output gate beside the faded sums."""
        d, chunks, ways = at.d_model, self.chunks(at), 1 if at.causal else 2
        if self.gate == "vector":
            fades, narrow = d // 2, GATE_RANK
            inside = bounded_peak(
                chunks, tokens, key=d // 2, value=d, heads=self.num_heads, growth=d // 2, ways=ways
            )
        else:
            fades, narrow = self.num_heads, 0
            inside = scalar_peak(
                chunks, tokens, key=d // 2, value=d, heads=self.num_heads, shared=False, ways=ways
            )
        # the last gate is made while the input, the parts and the gates before it live
        gates = tokens * 4 * d + max(tokens * narrow, 0) + tokens * ways * fades
        return max(gates, tokens * d + inside)

    def chunks(self, at: Surroundings) -> Chunks:
        """How the module cuts its tokens."""
        return Chunks.of(at.context_length, VECTOR_CHUNK if self.gate == "vector" else SCALAR_CHUNK)

    def _carried(self, at: Surroundings, tokens: int) -> int:
        chunks = self.chunks(at)
        return 0 if chunks.count == 1 else 2 * chunks.padded(tokens) * self.state_size(at, tokens)


class ForgetGate(nn.Module):
    """Logits of one direction's gates; small maps that stay dense and float32."""

    def __init__(self, config: GlaConfig, d_model: int) -> None:
        super().__init__()
        outputs = d_model // 2 if config.gate == "vector" else config.num_heads
        widths = (d_model, GATE_RANK, outputs) if config.gate == "vector" else (d_model, outputs)
        self.maps = nn.Sequential()
        for inputs, width in pairwise(widths):
            self.maps.append(SmallMap(inputs, width))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"bias": ParameterRole("mixer.state")}

    def forward(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch tokens gates"]:
        """log alpha, in float32 at least."""
        logits = wide(self.maps(x)) + self.bias
        return (log_sigmoid(logits) / TEMPERATURE).clamp(min=LOG_FLOOR)


class Gla(Mixer):
    """State and sums in float32 at least."""

    past: Tensor

    def __init__(self, config: GlaConfig, at: Surroundings) -> None:
        super().__init__()
        d = at.d_model
        self.num_heads, self.widths = config.num_heads, (d // 2, d // 2, d, d)
        self.is_vector, self.chunks = config.gate == "vector", config.chunks(at)
        self.input = read(at, self.widths, "mixer.in")
        self.gates = nn.ModuleList(ForgetGate(config, d) for _ in range(1 if at.causal else 2))
        self.gain = nn.Parameter(torch.ones(d // config.num_heads))
        self.out = write(at, d, "mixer.out")
        size = self.chunks.size
        past = torch.ones(size, size, dtype=torch.bool).tril() if self.is_vector else past_bias(size)
        self.register_buffer("past", past, persistent=False)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"gain": ParameterRole("norm")}

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        if (run := fused("faded_sums", x, width=self._key_width, unless=self._unfused)) is not None:
            q, k, v, gate, (fade,) = self._faded(x, mask, UNCUT)
            return self._written(run(q, k, v, fade if self.is_vector else fade[..., 0])[0], gate, UNCUT)
        return self._mixed(*self._faded(x, mask, self.chunks))

    @property
    def _key_width(self) -> int:
        return self.widths[0] // self.num_heads

    @property
    def _unfused(self) -> str | None:
        return BOTH_WAYS if len(self.gates) > 1 else None

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        width, value = self.widths[0] // self.num_heads, self.widths[2] // self.num_heads
        float_type = torch.promote_types(dtype, torch.float32)
        return {"sums": self.gain.new_zeros(batch_size, self.num_heads, width, value, dtype=float_type)}

    def step(
        self, x: Tensor, state: State, position: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        q, k, v, gate = self._parts(x, UNCUT)
        before = state["sums"]
        if (run := fused("faded_step", q, k, v, unless=None if mask is None else PADDING)) is not None:
            fade = self._fades(0, x, UNCUT)[:, :, 0]
            mixed, after = run(
                q[:, :, 0], k[:, :, 0], v[:, :, 0], fade if self.is_vector else fade[..., 0], before
            )
            return self._written(mixed[:, :, None], gate, UNCUT), {"sums": after}
        after = self._fades(0, x, UNCUT).exp().transpose(-1, -2) * before + k.transpose(-1, -2) * v
        if mask is not None:
            after = torch.where(mask[:, :, None, None], after, before)
        return self._written(q @ after, gate, UNCUT), {"sums": after}

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, State]:
        q, k, v, gate, fades = self._faded(x, mask, self.chunks)
        return self._mixed(q, k, v, gate, fades), {"sums": state_after(k, v, fades[0], self.chunks)}

    def _faded(
        self,
        x: Float[Tensor, "batch tokens d_model"],
        mask: Bool[Tensor, "batch tokens"] | None,
        chunks: Chunks,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        """Cut parts, and the log decays of each direction; padded tokens neither add nor fade."""
        q, k, v, gate = self._parts(x, chunks)
        fades = tuple(self._fades(way, x, chunks) for way in range(len(self.gates)))
        if mask is not None:
            real = chunks.heads(mask[..., None].to(k.dtype), 1)
            k, fades = k * real, tuple(fade * real for fade in fades)
        return q, k, v, gate, fades

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, gate: Tensor, fades: tuple[Tensor, ...]) -> Tensor:
        if self.is_vector:
            growths = tuple(Growth.of(fade, is_backward=way == 1) for way, fade in enumerate(fades))
            mixed = bounded_sums(q, k, v, growths, self.past, self.chunks)
        else:
            mixed = scalar_sums(q, k, v, fades, self.past, self.chunks)
        return self._written(mixed, gate, self.chunks)

    def _parts(
        self, x: Float[Tensor, "batch tokens d_model"], chunks: Chunks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys and values in heads; the output gate with heads still merged."""
        *heads, gate = self.input(x).split(self.widths, dim=-1)
        q, k, v = (chunks.heads(wide(part), self.num_heads) for part in heads)
        return q * q.shape[-1] ** -0.5, k, v, gate

    def _fades(self, way: int, x: Float[Tensor, "batch tokens d_model"], chunks: Chunks) -> Tensor:
        return chunks.heads(self.gates[way](x), self.num_heads)

    def _written(self, mixed: Tensor, gate: Tensor, chunks: Chunks) -> Tensor:
        merged = chunks.merged(rmsnorm(mixed, self.gain), gate)
        y: Tensor = self.out(merged.to(gate.dtype) * functional.silu(gate))
        return y


def gla_reference(
    q: Float[Tensor, "batch heads tokens key"],
    k: Float[Tensor, "batch heads tokens key"],
    v: Float[Tensor, "batch heads tokens value"],
    log_decays: tuple[Float[Tensor, "batch heads tokens key_or_1"], ...],
    *,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch heads tokens value"]:
    """The definition, token by token; two decays: both ways, no token counted twice. q holds the scale."""
    real = torch.ones_like(q[:, 0, :, 0]) if mask is None else mask.to(q.dtype)
    forward = _recurrent(q, k, v, log_decays[0], real)
    if len(log_decays) == 1:
        return forward
    late = log_decays[1].flip(2)
    backward = _recurrent(q.flip(2), k.flip(2), v.flip(2), late, real.flip(1)).flip(2)
    return forward + backward - (q * k).sum(-1, keepdim=True) * real[:, None, :, None] * v


def _recurrent(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, real: Tensor) -> Tensor:
    state = torch.zeros_like(k[:, :, 0, :, None] * v[:, :, 0, None, :])
    rows = []
    for t in range(q.shape[2]):
        here = real[:, t, None, None, None]
        added = torch.einsum("bhk,bhv->bhkv", k[:, :, t], v[:, :, t])
        state = torch.exp(log_decay[:, :, t, :, None] * here) * state + here * added
        rows.append(torch.einsum("bhk,bhkv->bhv", q[:, :, t], state))
    return torch.stack(rows, dim=2)
