"""Pooling: each token moves towards the mean of its neighbours.

    y_i = gain * (mean of x_j over the window - x_i)
    window: the last w tokens, i itself included (causal); floor(w/2) to each side (both ways);
            w x w patches around i on the grid of an image

Source: Yu et al. 2021, arXiv:2111.11418 (PoolFormer). The causal form and its decoding are ours. Only real
tokens count.

The gains (LayerScale: Touvron et al. 2021, arXiv:2103.17239) start at 1e-5, as the source has it for up to 18
layers. A short training does not leave them there: Adam moves each by about its learning rate per step. Bits
per byte after 150 steps of 16 x 128 bytes (python-stdlib, width 64, w = 5, one seed):

    gains start at                  1e-5     1e-2     0.1      1
    2 layers, rate 0.003            3.055    3.104    3.303    3.215
    2 layers, rate 0.0005           3.685    3.683    3.955
    4 layers, rate 0.003            3.001    3.138    3.371    3.522
    4 layers, rate 0.0005           3.650    3.716    4.111    4.256
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from ..choice import Mixer, MixerChoice, Padding, State, Surroundings
from ..gene import LayerGene
from ..kernels.windows import advanced, newest, num_real
from ..roles import ParameterRole

GAIN = 1e-5
"""Where the gains start."""


class PoolConfig(MixerChoice):
    """Additions only, and one gain per channel."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "masked"
    reads_grid: ClassVar[bool] = True
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = True
    has_probabilities: ClassVar[bool] = False
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "width": LayerGene("pool_width", (3,), "Tokens a pool averages.", least=1, most=63, odd=True)
    }

    kind: Literal["pool"] = "pool"
    width: int = Field(ge=1, le=255, description="Tokens in the window, per axis of an image; odd.")

    @field_validator("width")
    @classmethod
    def _is_odd(cls, width: int) -> int:
        if width % 2 == 0:
            raise ValueError(f"width={width} is even; a window around a token is odd, choose {width + 1}")
        return width

    def build(self, at: Surroundings) -> "Pool":
        return Pool(self.width, at)

    def own_params(self, at: Surroundings) -> int:
        """The gains."""
        return at.d_model

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """None: the window sums are additions, gain and mean are elementwise."""
        return 0

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        return 0

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """The last `width - 1` inputs and how many of them there are."""
        return (self.width - 1) * at.d_model + 1

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input, padded input and running sum."""
        padding = self.width - 1
        if at.grid is not None:
            padding *= max(at.grid)
        return at.d_model * (3 * tokens + padding)

    def reach(self, at: Surroundings) -> int:
        """In reading order; on a grid to the far corner of the window."""
        half = self.width // 2
        far = self.width - 1 if at.causal else half if at.grid is None else half * (at.grid[1] + 1)
        return min(at.context_length, far)


class Pool(Mixer):
    """Sums of shifted copies, divided by the number of real tokens in the window."""

    def __init__(self, width: int, at: Surroundings) -> None:
        super().__init__()
        self.width, self.causal, self.grid, self.d_model = width, at.causal, at.grid, at.d_model
        self.gain = nn.Parameter(torch.full((at.d_model,), GAIN))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"gain": ParameterRole("mixer.state")}

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        if mask is None:
            total = self._window_sum(x)
            real = torch.ones_like(x[:1, :, :1])
        else:
            real = mask[..., None].to(x.dtype)
            total = self._window_sum(x * real)
        return self.gain * (total / self._window_sum(real).clamp(min=1.0) - x)

    def _window_sum(
        self, u: Float[Tensor, "batch tokens channels"]
    ) -> Float[Tensor, "batch tokens channels"]:
        """Sum over the window of each token; nothing beyond the ends."""
        if self.grid is None:
            behind = self.width - 1 if self.causal else self.width // 2
            return window_sum(u, self.width, behind=behind, dim=1)
        half = self.width // 2
        image = u.reshape(-1, *self.grid, u.shape[-1])
        across = window_sum(image, self.width, behind=half, dim=2)
        return window_sum(across, self.width, behind=half, dim=1).flatten(1, 2)

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> State:
        zeros = self.gain.new_zeros
        return {
            "inputs": zeros(batch_size, self.width - 1, self.d_model, dtype=dtype),
            "count": zeros(batch_size, 1, dtype=dtype),
        }

    def step(
        self, x: Tensor, state: State, position: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        window = torch.cat([state["inputs"], x], dim=1)
        before = state["count"]
        mean = window.sum(1, keepdim=True) / (before + 1.0)[..., None]
        after = before + (1.0 if mask is None else mask.to(before.dtype))
        kept = {"inputs": advanced(window, mask), "count": after.clamp(max=float(self.width - 1))}
        return self.gain * (mean - x), kept

    def prefill(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, State]:
        kept = {
            "inputs": newest(x, self.width - 1, mask),
            "count": num_real(x, self.width - 1, mask),
        }
        return self.forward(x, mask), kept


def window_sum(u: Float[Tensor, "*axes"], width: int, *, behind: int, dim: int) -> Float[Tensor, "*axes"]:
    """Sum along one axis over `width` places, the first of them `behind` places back."""
    n = u.shape[dim]
    ends = (0, 0) * (u.ndim - 1 - dim) + (behind, width - 1 - behind)
    padded = functional.pad(u, ends)
    total = padded.narrow(dim, 0, n)
    for shift in range(1, width):
        total = total + padded.narrow(dim, shift, n)
    return total


def pool_reference(
    x: Float[Tensor, "batch tokens d_model"],
    width: int,
    gain: Float[Tensor, " d_model"],
    *,
    causal: bool,
    grid: tuple[int, int] | None = None,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens d_model"]:
    """The definition, one token at a time."""
    n = x.shape[1]
    columns = n if grid is None else grid[1]
    real = torch.ones_like(x[..., 0]) if mask is None else mask.to(x.dtype)
    rows = []
    for i in range(n):
        inside = torch.tensor([_is_near(i, j, width, columns, causal=causal) for j in range(n)])
        weights = real * inside
        total = (weights[..., None] * x).sum(1)
        rows.append(total / weights.sum(1, keepdim=True).clamp(min=1.0) - x[:, i])
    return gain * torch.stack(rows, dim=1)


def _is_near(i: int, j: int, width: int, columns: int, *, causal: bool) -> bool:
    """Whether j lies in the window of i; a sequence is one row."""
    if causal:
        return 0 <= i - j < width
    half = width // 2
    return abs(i // columns - j // columns) <= half and abs(i % columns - j % columns) <= half
