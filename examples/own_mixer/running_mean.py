"""Running mean: every token reads the average of the values so far, recent ones more.

    v = x W_v        m_i = a m_{i-1} + (1 - a) v_i,  m_{-1} = 0        y = m W_o

The decay a is one constant per model. An example of an own mixer: this file and one line in pyproject.toml.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from space.choice import LinearMap, Mixer, MixerChoice, Padding, State, Surroundings
from space.gene import LayerGene
from space.projection import read, write


class RunningMeanConfig(MixerChoice):
    """Order-aware by itself; sees the past only."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = False
    padding: ClassVar[Padding] = "masked"
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = True
    has_probabilities: ClassVar[bool] = False
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "half_life": LayerGene(
            "half_life", (4, 16), "Tokens after which a value counts half.", least=1, most=1024
        )
    }

    kind: Literal["running_mean"] = "running_mean"
    half_life: int = Field(ge=1, le=1024, description="Tokens after which a value counts half.")

    def build(self, at: Surroundings) -> "RunningMean":
        return RunningMean(self.half_life, at)

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        return (LinearMap(at.d_model, (at.d_model,)), LinearMap(at.d_model, (at.d_model,)))

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """One product of the square of weights with the values."""
        return tokens**2 * at.d_model

    def mixing_macs_causal(self, at: Surroundings, tokens: int) -> int:
        return tokens * (tokens + 1) // 2 * at.d_model

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        return 0

    def state_size(self, at: Surroundings, tokens: int) -> int:
        return at.d_model

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Values beside the input; later the square beside values and means."""
        return 2 * tokens * at.d_model + tokens**2


class RunningMean(Mixer):
    """All tokens at once by a lower-triangular matrix of weights, or one by one."""

    def __init__(self, half_life: int, at: Surroundings) -> None:
        super().__init__()
        self.decay = 0.5 ** (1.0 / half_life)
        self.values = read(at, at.d_model, "mixer.in")
        self.out = write(at, at.d_model, "mixer.out")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        v: Tensor = self.values(x)
        behind = torch.arange(x.shape[1], device=x.device, dtype=v.dtype)
        behind = behind[:, None] - behind[None, :]
        if mask is not None:  # padded tokens neither count nor let time pass
            real = mask.to(v.dtype)
            v = v * real[..., None]
            clock = real.cumsum(1)
            behind = clock[:, :, None] - clock[:, None, :]
        aged = torch.exp(behind.clamp(min=0) * math.log(self.decay))  # of keys to come it would overflow
        weights = (1.0 - self.decay) * aged * _lower(x)
        y: Tensor = self.out(weights @ v)
        return y

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        weight = next(self.out.parameters())
        return {"mean": torch.zeros(batch_size, 1, weight.shape[1], dtype=dtype, device=weight.device)}

    def step(
        self, x: Tensor, state: State, position: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        mean = self.decay * state["mean"] + (1.0 - self.decay) * self.values(x)
        if mask is not None:
            mean = torch.where(mask[..., None], mean, state["mean"])
        return self.out(mean), {"mean": mean}


def _lower(x: Tensor) -> Tensor:
    """1 where a query may read a key, [tokens, tokens]."""
    n = x.shape[1]
    return torch.ones(n, n, dtype=x.dtype, device=x.device).tril()


def running_mean_reference(v: Tensor, decay: float) -> Tensor:
    """The definition, token by token: v [batch, tokens, width]."""
    mean, rows = torch.zeros_like(v[:, 0]), []
    for t in range(v.shape[1]):
        mean = decay * mean + (1.0 - decay) * v[:, t]
        rows.append(mean)
    return torch.stack(rows, dim=1)
