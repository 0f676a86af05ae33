"""State space duality (Mamba-2): linear attention whose heads forget by token, one decay per head.

    (z, x, B, C) = split(x W_in)    r = x W_r       d_i = e d channels, H = d_i / P heads
    (x, B, C) <- silu(conv_w(x, B, C) + bias)
    Delta = softplus(r + b_Delta)   a = -exp(A_log) Delta   per head;  B and C [N] are shared by all heads
    S_t = exp(a_t) S_{t-1} + Delta_t x_t B_t^T              y_t = S_t C_t + D x_t
    out = rmsnorm(y * silu(z)) W_out
    both ways: a second A_log for the future and a centred convolution; no token counts twice

Source: Dao and Gu 2024, arXiv:2405.21060, and its code, mamba2.py (one group). The form both ways is ours.
A_log starts at ln U(1, 16), D at 1, b_Delta where Delta is log-uniform in [0.001, 0.1].
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..choice import LinearMap, Mixer, MixerChoice, Padding, State, Surroundings
from ..errors import InvalidArchitectureError
from ..gene import CONV_WIDTH, LayerGene
from ..kernels.dispatch import BOTH_WAYS, PADDING, fused
from ..kernels.scan import Chunks, past_bias, scalar_sums, state_after, wide
from ..kernels.scan_costs import scalar_peak
from ..kernels.windows import advanced, convolved, newest
from ..mixing.state_space import EXPANSION, SmallMap, softplus, start_of_steps
from ..norms.rmsnorm import rmsnorm
from ..projection import read, write
from ..roles import ParameterRole

CHUNK = 128
UNCUT = Chunks(1, 1)
"""All tokens in one chunk: one token, or as many as a kernel cuts itself."""


class Mamba2Config(MixerChoice):
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
        "head_width": LayerGene(
            "ssd_head_width", (32, 16, 64), "Channels per head of Mamba-2; at most all of them.",
            least=1, most=256,
        ),
        "state_width": LayerGene(
            "ssd_state", (32, 16, 64, 128), "State numbers per channel of Mamba-2.", least=1, most=256
        ),
        "conv_width": CONV_WIDTH,
    }  # fmt: skip

    kind: Literal["mamba2"] = "mamba2"
    expansion: int = Field(2, ge=1, le=2, description="Channels inside over d_model.")
    head_width: int = Field(32, ge=1, le=256, description="Channels per head; divides the channels inside.")
    state_width: int = Field(32, ge=1, le=256, description="State numbers per channel.")
    conv_width: int = Field(4, ge=1, le=64, description="Tokens the convolution reads, itself included.")

    @classmethod
    def snapped(cls, values: dict[str, Any], at: Surroundings) -> dict[str, Any]:
        """The widest heads not above the wanted width that divide the channels."""
        inner = values["expansion"] * at.d_model
        wanted = min(values["head_width"], inner)
        return {**values, "head_width": next(p for p in range(wanted, 0, -1) if inner % p == 0)}

    def check(self, at: Surroundings) -> None:
        if self.inner(at) % self.head_width:
            raise InvalidArchitectureError(
                f"mamba2: head_width={self.head_width} does not divide {self.inner(at)} channels; "
                "choose a divisor"
            )

    def build(self, at: Surroundings) -> "Mamba2":
        self.check(at)
        return Mamba2(self, at)

    def inner(self, at: Surroundings) -> int:
        """d_i: channels with a state."""
        return self.expansion * at.d_model

    def heads(self, at: Surroundings) -> int:
        return self.inner(at) // self.head_width

    def convolved_width(self, at: Surroundings) -> int:
        """Channels that pass through the convolution."""
        return self.inner(at) + 2 * self.state_width

    def parts(self, at: Surroundings) -> tuple[int, ...]:
        """Widths of z, x, B, C and r."""
        inner, states = self.inner(at), self.state_width
        return (inner, inner, states, states, self.heads(at))

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        *parts, steps = self.parts(at)
        return (
            LinearMap(at.d_model, tuple(parts)),
            LinearMap(at.d_model, (steps,), projected=False),
            LinearMap(self.inner(at), (at.d_model,)),
        )

    def own_params(self, at: Surroundings) -> int:
        """Kernel and its bias; D, b_Delta, A_log of each direction; the gain of the norm."""
        per_head = 3 if at.causal else 4
        kernel = (self.conv_width + 1) * self.convolved_width(at)
        return kernel + per_head * self.heads(at) + self.inner(at)

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """Kernel taps, whole squares of scores, and states where there are many chunks, of each direction.

        Heads share the scores but not their decays.
        """
        chunks = Chunks.of(at.context_length, CHUNK)
        pairs = (self.state_width + self.inner(at)) * chunks.pairs(tokens)
        return self._taps(at, tokens) + pairs + (1 if at.causal else 2) * self._carried(at, tokens)

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        """Inside a chunk the permitted pairs only."""
        pairs = Chunks.of(at.context_length, CHUNK).past_pairs(tokens)
        inside = (self.state_width + self.inner(at)) * pairs
        return self._taps(at, tokens) + inside + self._carried(at, tokens)

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        """Taps, then into the state and out of it."""
        return self._taps(at, 1) + 2 * self.inner(at) * self.state_width

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """States, and the last inputs of the convolution."""
        return self.inner(at) * self.state_width + (self.conv_width - 1) * self.convolved_width(at)

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input and projected parts; convolution; later gate and values beside the faded sums."""
        inner, channels, taps = self.inner(at), self.convolved_width(at), self.conv_width - 1
        heads = self.heads(at)
        inside = scalar_peak(
            Chunks.of(at.context_length, CHUNK), tokens, key=self.state_width, value=inner, heads=heads,
            shared=True, ways=1 if at.causal else 2,
        )  # fmt: skip
        parts = tokens * (inner + channels + heads)
        convolution = tokens * (inner + heads) + (2 * tokens + taps) * channels
        padded = Chunks.of(at.context_length, CHUNK).padded(tokens)
        return max(tokens * at.d_model + parts, convolution, tokens * inner + padded * inner + inside)

    def _taps(self, at: Surroundings, tokens: int) -> int:
        return tokens * self.conv_width * self.convolved_width(at)

    def _carried(self, at: Surroundings, tokens: int) -> int:
        chunks = Chunks.of(at.context_length, CHUNK)
        return 0 if chunks.count == 1 else 2 * chunks.padded(tokens) * self.inner(at) * self.state_width


class Mamba2(Mixer):
    """States in float32 at least. The state of decoding also has the last inputs of the convolution."""

    bias_of_pairs: Tensor

    def __init__(self, config: Mamba2Config, at: Surroundings) -> None:
        super().__init__()
        self.widths, self.heads = config.parts(at), config.heads(at)
        self.conv_width, channels = config.conv_width, config.convolved_width(at)
        self.ahead = 0 if at.causal else self.conv_width - 1 - self.conv_width // 2
        self.chunks = Chunks.of(at.context_length, CHUNK)
        self.input = read(at, self.widths[:4], "mixer.in")
        self.steps = SmallMap(at.d_model, self.heads)
        bound = self.conv_width**-0.5
        self.kernel = nn.Parameter(torch.empty(channels, self.conv_width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))
        self.steps_bias = nn.Parameter(start_of_steps(self.heads))
        ways = 1 if at.causal else 2
        # one axis, as all that optimisers shall spare from weight decay
        self.a_log = nn.Parameter(torch.empty(ways * self.heads).uniform_(1.0, 16.0).log())
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.gain = nn.Parameter(torch.ones(config.inner(at)))
        self.out = write(at, config.inner(at), "mixer.out", branches=1)
        self.register_buffer("bias_of_pairs", past_bias(self.chunks.size), persistent=False)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        names = ("kernel", "bias", "steps_bias", "a_log", "skip")
        return {"gain": ParameterRole("norm"), **{name: ParameterRole("mixer.state") for name in names}}

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        z, inputs, delta = self._parts(x)
        if (run := fused("faded_sums", x, width=self.widths[2], unless=self._unfused)) is not None:
            values, k, q, steps = self._convolved(inputs, delta, mask, UNCUT)
            k, q = (part.expand(-1, self.heads, -1, -1) for part in (k, q))
            mixed = run(q, k, steps * values, (steps * self._rates()[0])[..., 0])[0]
            return self._written(mixed + self.skip[:, None, None] * values, z, UNCUT)
        return self._mixed(z, *self._convolved(inputs, delta, mask, self.chunks))

    @property
    def _unfused(self) -> str | None:
        return BOTH_WAYS if len(self._rates()) > 1 else None

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        wide_type = torch.promote_types(dtype, torch.float32)
        inner, states = self.widths[0], self.widths[2]
        width = inner // self.heads
        return {
            "inputs": self.bias.new_zeros(
                batch_size, self.conv_width - 1, inner + 2 * states, dtype=wide_type
            ),
            "sums": self.bias.new_zeros(batch_size, self.heads, states, width, dtype=wide_type),
        }

    def step(
        self, x: Tensor, state: State, position: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        z, inputs, delta = self._parts(x)
        window = torch.cat([state["inputs"], inputs.to(state["inputs"].dtype)], dim=1)
        u = (window * self.kernel.T).sum(1, keepdim=True) + self.bias
        values, k, q = self._read(u, UNCUT)
        steps = UNCUT.heads(delta, self.heads)
        before = state["sums"]
        fades = steps * self._rates()[0]
        if (run := fused("faded_step", q, k, values, unless=None if mask is None else PADDING)) is not None:
            k, q = (part.expand(-1, self.heads, -1, -1)[:, :, 0] for part in (k, q))
            y, after = run(q, k, (steps * values)[:, :, 0], fades[:, :, 0, 0], before)
            mixed = y[:, :, None] + self.skip[:, None, None] * values
            return self._written(mixed, z, UNCUT), {"inputs": advanced(window, mask), "sums": after}
        after = torch.exp(fades) * before + k.transpose(-1, -2) * (steps * values)
        if mask is not None:
            after = torch.where(mask[:, :, None, None], after, before)
        mixed = q @ after + self.skip[:, None, None] * values
        return self._written(mixed, z, UNCUT), {"inputs": advanced(window, mask), "sums": after}

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, State]:
        z, inputs, delta = self._parts(x)
        values, k, q, steps = self._convolved(inputs, delta, mask, self.chunks)
        sums = state_after(k, steps * values, steps * self._cut(self._rates()[0]), self.chunks)
        kept = wide(newest(inputs, self.conv_width - 1, mask))
        return self._mixed(z, values, k, q, steps), {"inputs": kept, "sums": sums}

    def _parts(self, x: Float[Tensor, "batch tokens d_model"]) -> tuple[Tensor, Tensor, Tensor]:
        """z, the inputs of the convolution, and Delta."""
        inner, _, *states, _ = self.widths
        z, inputs = self.input(x).split([inner, inner + sum(states)], dim=-1)
        return z, inputs, softplus(wide(self.steps(x)) + self.steps_bias)

    def _mixed(self, z: Tensor, values: Tensor, k: Tensor, q: Tensor, steps: Tensor) -> Tensor:
        fades = tuple(steps * self._cut(rate) for rate in self._rates())
        mixed = scalar_sums(q, k, steps * values, fades, self.bias_of_pairs, self.chunks)
        return self._written(mixed + self._cut(self.skip[:, None, None]) * values, z, self.chunks)

    def _convolved(
        self, inputs: Tensor, delta: Tensor, mask: Tensor | None, chunks: Chunks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cut values, keys, queries and steps; padded tokens make steps of 0."""
        if mask is not None:
            real = mask[..., None].to(inputs.dtype)
            inputs, delta = inputs * real, delta * real
        u = convolved(inputs.transpose(1, 2), self.kernel, self.bias, ahead=self.ahead).transpose(1, 2)
        return *self._read(u, chunks), chunks.heads(delta, self.heads)

    def _read(self, u: Tensor, chunks: Chunks) -> tuple[Tensor, Tensor, Tensor]:
        """Values in heads; keys (B) and queries (C) that all heads share."""
        values, k, q = torch.split(wide(functional.silu(u)), list(self.widths[1:4]), dim=-1)
        return chunks.heads(values, self.heads), chunks.heads(k, 1), chunks.heads(q, 1)

    def _rates(self) -> tuple[Float[Tensor, "heads 1 1"], ...]:
        """A of each direction."""
        rates: tuple[Tensor, ...] = torch.split(-torch.exp(wide(self.a_log))[:, None, None], self.heads)
        return rates

    def _cut(self, per_head: Float[Tensor, "heads 1 1"]) -> Tensor:
        """With an axis for chunks where there is one."""
        return per_head if self.chunks.count == 1 else per_head[:, None]

    def _written(self, mixed: Tensor, z: Tensor, chunks: Chunks) -> Tensor:
        gated = chunks.merged(mixed, z).to(z.dtype) * functional.silu(z)
        y: Tensor = self.out(rmsnorm(gated, self.gain))
        return y


def mamba2_reference(
    values: Float[Tensor, "batch heads tokens width"],
    k: Float[Tensor, "batch 1 tokens states"],
    q: Float[Tensor, "batch 1 tokens states"],
    delta: Float[Tensor, "batch heads tokens 1"],
    rates: tuple[Float[Tensor, "heads 1 1"], ...],
) -> Float[Tensor, "batch heads tokens width"]:
    """The recurrence, token by token; two rates: both ways, no token counted twice. No D, gate, norm."""
    forward = _recurrent(values, k, q, delta, rates[0])
    if len(rates) == 1:
        return forward
    backward = _recurrent(values.flip(2), k.flip(2), q.flip(2), delta.flip(2), rates[1]).flip(2)
    return forward + backward - (q * k).sum(-1, keepdim=True) * delta * values


def _recurrent(values: Tensor, k: Tensor, q: Tensor, delta: Tensor, rate: Tensor) -> Tensor:
    state = torch.zeros_like(k[:, :, 0, :, None] * values[:, :, 0, None, :])
    rows = []
    for t in range(values.shape[2]):
        step = delta[:, :, t, :, None]
        added = torch.einsum("bgs,bhp->bhsp", k[:, :, t], values[:, :, t])
        state = torch.exp(step * rate) * state + step * added
        rows.append(torch.einsum("bgs,bhsp->bhp", q[:, :, t], state))
    return torch.stack(rows, dim=2)
