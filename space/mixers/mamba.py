"""Selective state space (Mamba, first form): every channel keeps a small state, written and faded by token.

    (u, z) = split(x W_in)          u <- silu(conv_w(u) + bias)           d_i = e d channels each
    (r, B, C) = split(u W_x)        Delta = softplus(r W_Delta + b_Delta)  r: R = ceil(d / 16), B, C: N
    s_t = exp(Delta_t A) * s_{t-1} + Delta_t u_t B_t      y_t = s_t . C_t + D u_t     A = -exp(A_log) [d_i, N]
    out = (y * silu(z)) W_out
    both ways: y of x and y of x read backwards, added; W_in, conv, W_x, W_out shared, the rest each its own

Source: Gu and Dao 2023, arXiv:2312.00752, and its code, mamba_simple.py. The form both ways is ours. A_log
starts at ln 1..N, D at 1, W_Delta in +-R^(-1/2), b_Delta where Delta is log-uniform in [0.001, 0.1].
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..choice import LinearMap, Mixer, MixerChoice, Padding, State, Surroundings
from ..gene import CONV_WIDTH, LayerGene
from ..kernels.scan import Chunks, selective_scan, selective_state, sized_chunks, wide
from ..kernels.scan_costs import selective_peak
from ..kernels.windows import advanced, convolved, newest
from ..mixing.state_space import EXPANSION, SmallMap, softplus, start_of_steps
from ..projection import read, write
from ..roles import ParameterRole

CHUNK = 16


class MambaConfig(MixerChoice):
    """Sees order by convolution and forgetting; may stand without a feed-forward."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "masked"
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = True
    direction_aware: ClassVar[bool] = True
    has_probabilities: ClassVar[bool] = False
    own_nonlinearity: ClassVar[bool] = True
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "expansion": EXPANSION,
        "state_width": LayerGene(
            "ssm_state", (16, 8), "State numbers per channel of Mamba.", least=1, most=64
        ),
        "conv_width": CONV_WIDTH,
    }

    kind: Literal["mamba"] = "mamba"
    expansion: int = Field(2, ge=1, le=2, description="Channels inside over d_model.")
    state_width: int = Field(16, ge=1, le=64, description="State numbers per channel.")
    conv_width: int = Field(4, ge=1, le=64, description="Tokens the convolution reads, itself included.")

    def build(self, at: Surroundings) -> "Mamba":
        return Mamba(self, at)

    def inner(self, at: Surroundings) -> int:
        """d_i: channels with a state."""
        return self.expansion * at.d_model

    def rank(self, at: Surroundings) -> int:
        """R: width of what steps are made of."""
        return -(-at.d_model // 16)

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        inner, rank, ways = self.inner(at), self.rank(at), 1 if at.causal else 2
        return (
            LinearMap(at.d_model, (inner, inner)),
            LinearMap(inner, (rank + 2 * self.state_width,), active=ways, projected=False),
            LinearMap(rank, (inner,), copies=ways, active=ways, projected=False),
            LinearMap(inner, (at.d_model,)),
        )

    def own_params(self, at: Surroundings) -> int:
        """Kernel and its bias; A_log, D and b_Delta of each direction."""
        directed = (1 if at.causal else 2) * (self.state_width + 2)
        return self.inner(at) * (self.conv_width + 1 + directed)

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """Kernel taps, and outputs read from the states, of each direction.

        The recurrence itself is elementwise and left out: 2 d_i N multiplications per token.
        """
        scanned = sized_chunks(self.inner(at) * self.state_width, tokens).whole(tokens)
        inner, ways = self.inner(at), 1 if at.causal else 2
        return ways * inner * (tokens * self.conv_width + scanned * self.state_width)

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        return tokens * self.mixing_macs_decode(at, tokens)

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        return self.inner(at) * (self.conv_width + self.state_width)

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """States, and the last inputs of the convolution."""
        return self.inner(at) * (self.state_width + self.conv_width - 1)

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input and projected parts; convolution; later the gate beside the scan.

        Both ways, the inputs of the convolution wait for the second direction, then the first one's result.
        """
        inner, taps = self.inner(at), self.conv_width - 1
        chunks = sized_chunks(inner * self.state_width, tokens)
        scan = selective_peak(chunks, tokens, width=inner, states=self.state_width, rank=self.rank(at))
        held = tokens * inner
        beside = held if at.causal else 2 * held
        return max(tokens * at.d_model + 2 * held, beside + 2 * held + taps * inner, beside + scan)


class Direction(nn.Module):
    """What one direction has for itself: A_log, D, and how long a step each token makes.

    A_log is stored as [N d_i], one axis: optimisers spare those from weight decay, as the source wants.
    """

    def __init__(self, inner: int, rank: int, states: int) -> None:
        super().__init__()
        self.states = states
        self.steps = SmallMap(rank, inner)
        nn.init.uniform_(self.steps.weight, -(rank**-0.5), rank**-0.5)
        self.steps_bias = nn.Parameter(start_of_steps(inner))
        self.a_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat_interleave(inner))
        self.skip = nn.Parameter(torch.ones(inner))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {name: ParameterRole("mixer.state") for name in ("steps_bias", "a_log", "skip")}

    def delta(self, r: Float[Tensor, "batch tokens rank"]) -> Float[Tensor, "batch tokens inner"]:
        return softplus(wide(self.steps(r)) + self.steps_bias)

    def rates(self) -> Float[Tensor, "states inner"]:
        """A."""
        return -torch.exp(wide(self.a_log).view(self.states, -1))


class Mamba(Mixer):
    """States in float32 at least. The state of decoding also has the last inputs of the convolution."""

    def __init__(self, config: MambaConfig, at: Surroundings) -> None:
        super().__init__()
        inner, rank, states = config.inner(at), config.rank(at), config.state_width
        self.inner, self.conv_width, self.widths = inner, config.conv_width, (rank, states, states)
        self.context_length = at.context_length
        self.input = read(at, (inner, inner), "mixer.in")
        bound = config.conv_width**-0.5
        self.kernel = nn.Parameter(torch.empty(inner, config.conv_width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(inner).uniform_(-bound, bound))
        self.selects = SmallMap(inner, sum(self.widths))
        self.directions = nn.ModuleList(Direction(inner, rank, states) for _ in range(1 if at.causal else 2))
        self.out = write(at, inner, "mixer.out", branches=1)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"kernel": ParameterRole("mixer.state"), "bias": ParameterRole("mixer.state")}

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        u, z = self.input(x).split(self.inner, dim=-1)
        real = None if mask is None else mask[..., None].to(u.dtype)
        columns = (u if real is None else u * real).transpose(1, 2)
        y = self._run(0, convolved(columns, self.kernel, self.bias, ahead=0), real)
        if len(self.directions) > 1:
            late = convolved(columns, self.kernel.flip(1), self.bias, ahead=self.conv_width - 1)
            y = y + self._run(1, late, real)
        return self._written(y, z)

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        float_type = torch.promote_types(dtype, torch.float32)
        return {
            "inputs": self.bias.new_zeros(batch_size, self.conv_width - 1, self.inner, dtype=float_type),
            "states": self.bias.new_zeros(batch_size, self.widths[1], self.inner, dtype=float_type),
        }

    def step(
        self, x: Tensor, state: State, position: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        inputs, z = self.input(x).split(self.inner, dim=-1)
        window = torch.cat([state["inputs"], inputs.to(state["inputs"].dtype)], dim=1)
        taps = (window * self.kernel.T).sum(1, keepdim=True) + self.bias
        u, delta, writes, reads = self._selected(0, functional.silu(taps).to(x.dtype))
        direction, before = self._direction(0), state["states"]
        after = torch.exp(delta * direction.rates()) * before + writes.transpose(1, 2) * (delta * u)
        if mask is not None:
            after = torch.where(mask[..., None], after, before)
        y = reads @ after + direction.skip * u
        return self._written(y, z), {"inputs": advanced(window, mask), "states": after}

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, State]:
        inputs, _ = self.input(x).split(self.inner, dim=-1)
        real = torch.ones_like(inputs[..., :1]) if mask is None else mask[..., None].to(inputs.dtype)
        columns = convolved((inputs * real).transpose(1, 2), self.kernel, self.bias, ahead=0)
        u, delta, writes, _ = self._selected(0, functional.silu(columns.transpose(1, 2)))
        states = selective_state(delta * real, u, self._direction(0).rates(), writes)
        kept = wide(newest(inputs, self.conv_width - 1, mask))
        return self(x, mask), {"inputs": kept, "states": states}

    def _run(self, way: int, columns: Tensor, real: Tensor | None) -> Tensor:
        """One direction from the convolution on; the result stands in the order of the tokens."""
        u, delta, writes, reads = self._selected(way, functional.silu(columns.transpose(1, 2)))
        direction, chunks = self._direction(way), self._chunks(u)
        if real is not None:
            delta = delta * real
        if not way:
            return selective_scan(delta, u, direction.rates(), writes, reads, chunks) + direction.skip * u
        delta, late, writes, reads = (part.flip(1) for part in (delta, u, writes, reads))
        y = selective_scan(delta, late, direction.rates(), writes, reads, chunks).flip(1)
        return y + direction.skip * u

    def _selected(self, way: int, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """u, Delta, B and C, in float32 at least."""
        r, writes, reads = self.selects(u).split(self.widths, dim=-1)
        return wide(u), self._direction(way).delta(r), wide(writes), wide(reads)

    def _direction(self, way: int) -> Direction:
        direction = self.directions[way]
        assert isinstance(direction, Direction)
        return direction

    def _chunks(self, u: Tensor) -> Chunks:
        """An exported graph has as many chunks as its input needs; else they fit the cache."""
        if torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting():
            return Chunks(CHUNK, -(-self.context_length // CHUNK))
        return sized_chunks(u.shape[0] * self.inner * self.widths[1], u.shape[1])

    def _written(self, y: Tensor, z: Tensor) -> Tensor:
        out: Tensor = self.out(y.to(z.dtype) * functional.silu(z))
        return out


def mamba_reference(
    delta: Float[Tensor, "batch tokens width"],
    u: Float[Tensor, "batch tokens width"],
    a: Float[Tensor, "states width"],
    writes: Float[Tensor, "batch tokens states"],
    reads: Float[Tensor, "batch tokens states"],
) -> Float[Tensor, "batch tokens width"]:
    """The recurrence of one direction, one token at a time, without D."""
    state = torch.zeros_like(writes[:, 0, :, None] * u[:, 0, None, :])
    rows = []
    for t in range(u.shape[1]):
        step = delta[:, t, None, :]
        state = torch.exp(step * a) * state + step * u[:, t, None, :] * writes[:, t, :, None]
        rows.append(torch.einsum("bs,bsd->bd", reads[:, t], state))
    return torch.stack(rows, dim=1)
