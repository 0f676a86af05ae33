"""Short gated convolution: a depthwise convolution along the tokens between gates.

    gates = 1:  (u, g) = split(x W_i)       y = (conv_w(u) * silu(g)) W_o
    gates = 2:  (B, C, u) = split(x W_i)    y = (C * conv_w(B * u)) W_o
    conv_w(u)_t = sum_s c_s * u_{t-s} + bias
    s = 0 .. w-1 (causal), s = floor(w/2)-w+1 .. floor(w/2) (both ways)

Source: the two-gate form is that of LFM2 (Liquid AI 2025, arXiv:2511.23404); the one-gate form is ours. The
kernel starts at 1/w plus N(0, 0.02^2). The patches of an image are one sequence in reading order.
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
from ..kernels.windows import advanced, convolved, newest
from ..projection import INIT_STD, read, write
from ..roles import ParameterRole


class GatedConvConfig(MixerChoice):
    """Sees order by itself; reaches `width - 1` tokens back per layer."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "masked"
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = True
    direction_aware: ClassVar[bool] = True
    has_probabilities: ClassVar[bool] = False
    own_nonlinearity: ClassVar[bool] = True
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "width": CONV_WIDTH,
        "gates": LayerGene("gates", (1,), "Gates of a gated convolution.", least=1, most=2),
    }

    kind: Literal["gated_conv"] = "gated_conv"
    width: int = Field(ge=1, le=255, description="Tokens the convolution reads, itself included.")
    gates: Literal[1, 2] = Field(1, description="1: silu gate after; 2: linear gates before and after.")

    def build(self, at: Surroundings) -> "GatedConv":
        return GatedConv(self.width, self.gates, at)

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        d = at.d_model
        return (LinearMap(d, (d,) * (1 + self.gates)), LinearMap(d, (d,)))

    def own_params(self, at: Surroundings) -> int:
        """The kernel and its bias."""
        return (self.width + 1) * at.d_model

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """Kernel taps; gates are elementwise, left out."""
        return tokens * self.width * at.d_model

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        return self.width * at.d_model

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """The last `width - 1` inputs of the convolution."""
        return (self.width - 1) * at.d_model

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input and projected parts; later the last gate and the convolution's padded input and output."""
        return at.d_model * max((2 + self.gates) * tokens, 3 * tokens + self.width - 1)

    def reach(self, at: Surroundings) -> int:
        return min(at.context_length, self.width - 1 if at.causal else self.width // 2)


class GatedConv(Mixer):
    """The state of decoding is the last `width - 1` inputs of the convolution."""

    def __init__(self, width: int, gates: int, at: Surroundings) -> None:
        super().__init__()
        d = at.d_model
        self.d_model, self.gates, self.width = d, gates, width
        self.ahead = 0 if at.causal else width - 1 - width // 2
        self.input = read(at, (d,) * (1 + gates), "mixer.in")
        self.kernel = nn.Parameter(torch.empty(d, width).normal_(1.0 / width, INIT_STD))
        self.bias = nn.Parameter(torch.zeros(d))
        self.out = write(at, d, "mixer.out")

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"kernel": ParameterRole("mixer.state"), "bias": ParameterRole("mixer.state")}

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        return self._mixed(*self._gated(x), mask)

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        return {"inputs": self.bias.new_zeros(batch_size, self.width - 1, self.d_model, dtype=dtype)}

    def step(
        self, x: Tensor, state: State, position: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        u, gate = self._gated(x)
        window = torch.cat([state["inputs"], u], dim=1)
        mixed = (window * self.kernel.T).sum(1, keepdim=True) + self.bias
        return self.out(gate * mixed), {"inputs": advanced(window, mask)}

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, State]:
        u, gate = self._gated(x)
        return self._mixed(u, gate, mask), {"inputs": newest(u, self.width - 1, mask)}

    def _gated(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Input of the convolution and the gate after it."""
        parts = self.input(x).split(self.d_model, dim=-1)
        if self.gates == 2:
            return parts[0] * parts[2], parts[1]
        return parts[0], functional.silu(parts[1])

    def _mixed(self, u: Tensor, gate: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            u = u * mask[..., None].to(u.dtype)
        mixed = convolved(u.transpose(1, 2), self.kernel, self.bias, ahead=self.ahead)
        y: Tensor = self.out(gate * mixed.transpose(1, 2))
        return y


def gated_conv_reference(
    parts: tuple[Float[Tensor, "batch tokens d_model"], ...],
    kernel: Float[Tensor, "d_model width"],
    bias: Float[Tensor, " d_model"],
    *,
    causal: bool,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens d_model"]:
    """The definition, token by token and tap by tap, up to W_o; `parts` as split from x W_i."""
    u = parts[0] * parts[2] if len(parts) == 3 else parts[0]
    n, width = u.shape[1], kernel.shape[1]
    ahead = 0 if causal else width - 1 - width // 2
    rows = []
    for t in range(n):
        row = bias.expand(u.shape[0], -1)
        for tap in range(width):
            j = t + ahead - (width - 1 - tap)
            if 0 <= j < n:
                there = u[:, j] if mask is None else u[:, j] * mask[:, j, None]
                row = row + kernel[:, tap] * there
        rows.append(row)
    mixed = torch.stack(rows, dim=1)
    return mixed * (parts[1] if len(parts) == 3 else parts[1] * torch.sigmoid(parts[1]))
