"""Pooling: each token moves towards the mean of its neighbours.

    y_i = mean of x_j over the window - x_i
    window: the last w tokens, i itself included (causal); floor(w/2) to each side (both ways)

Source: Yu et al. 2021, arXiv:2111.11418 (PoolFormer). The causal form is ours. Only real tokens count. Along
the token sequence, also for images. No LayerScale: meant for few layers.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional

from ..choice import Mixer, MixerChoice, Padding, Surroundings
from ..gene import LayerGene


class PoolConfig(MixerChoice):
    """No parameters, additions only."""

    causal: ClassVar[bool] = True
    bidirectional: ClassVar[bool] = True
    padding: ClassVar[Padding] = "masked"
    positions: ClassVar[frozenset[str]] = frozenset()
    order_aware: ClassVar[bool] = True
    has_probabilities: ClassVar[bool] = False
    genes: ClassVar[Mapping[str, LayerGene]] = {
        "width": LayerGene("pool_width", (3,), "Tokens a pool averages.", least=1, most=63, odd=True)
    }

    kind: Literal["pool"] = "pool"
    width: int = Field(ge=1, le=255, description="Tokens in the window; odd.")

    @field_validator("width")
    @classmethod
    def _is_odd(cls, width: int) -> int:
        if width % 2 == 0:
            raise ValueError(f"width={width} is even; a window around a token is odd, choose {width + 1}")
        return width

    def build(self, at: Surroundings) -> "Pool":
        return Pool(self.width, causal=at.causal)

    def mixing_macs(self, at: Surroundings, tokens: int) -> int:
        """None: the window sums are additions."""
        return 0

    def mixing_macs_decode(self, at: Surroundings, tokens: int) -> int:
        return 0

    def state_size(self, at: Surroundings, tokens: int) -> int:
        """The last `width - 1` inputs."""
        return (self.width - 1) * at.d_model

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input, padded input and running sum."""
        return at.d_model * (3 * tokens + self.width - 1)

    def reach(self, at: Surroundings) -> int:
        return min(at.context_length, self.width - 1 if at.causal else self.width // 2)


class Pool(Mixer):
    """Sums of shifted copies, divided by the number of real tokens in the window."""

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        self.width, self.causal = width, causal

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        if mask is None:
            real = torch.ones_like(x[:1, :, :1])
            total = window_sum(x, self.width, causal=self.causal)
        else:
            real = mask[..., None].to(x.dtype)
            total = window_sum(x * real, self.width, causal=self.causal)
        count = window_sum(real, self.width, causal=self.causal)
        return total / count.clamp(min=1.0) - x


def window_sum(
    u: Float[Tensor, "batch tokens channels"], width: int, *, causal: bool
) -> Float[Tensor, "batch tokens channels"]:
    """Sum over the window of each token; nothing beyond the ends."""
    n = u.shape[1]
    behind = width - 1 if causal else width // 2
    padded = functional.pad(u, (0, 0, behind, width - 1 - behind))
    total = padded[:, :n]
    for shift in range(1, width):
        total = total + padded[:, shift : shift + n]
    return total


def pool_reference(
    x: Float[Tensor, "batch tokens d_model"],
    width: int,
    *,
    causal: bool,
    mask: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "batch tokens d_model"]:
    """The definition, one token at a time."""
    n = x.shape[1]
    real = torch.ones_like(x[..., :1]) if mask is None else mask[..., None].to(x.dtype)
    rows = []
    for i in range(n):
        first = max(0, i - (width - 1 if causal else width // 2))
        last = i if causal else min(n - 1, i + width // 2)
        total = (x * real)[:, first : last + 1].sum(1)
        rows.append(total / real[:, first : last + 1].sum(1).clamp(min=1.0) - x[:, i])
    return torch.stack(rows, dim=1)
