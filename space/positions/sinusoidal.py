"""Fixed waves of many lengths per absolute position, added to the embedding.

    x_i <- x_i + P_i,   P_{i,2k} = sin(i / 10000^(2k/d)),   P_{i,2k+1} = cos(i / 10000^(2k/d))

Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5. An odd width ends with a sine. Nothing is trained,
and the waves go on beyond the context length.
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..choice import PositionChoice, PositionModule, Surroundings

BASE = 10_000.0


class SinusoidalPositionConfig(PositionChoice):
    """Adds no parameters."""

    direction_aware: ClassVar[bool] = True
    on_tokens: ClassVar[bool] = True

    kind: Literal["sinusoidal"] = "sinusoidal"

    def build(self, at: Surroundings) -> "SinusoidalPosition":
        return SinusoidalPosition(at.context_length, at.d_model)


class SinusoidalPosition(PositionModule):
    """Keeps the waves of the context."""

    table: Tensor

    def __init__(self, context_length: int, d_model: int) -> None:
        super().__init__()
        self.register_buffer("table", waves(context_length, d_model).float(), persistent=False)

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], start: Int[Tensor, ""] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        n = x.shape[1]
        if start is not None:
            return x + self.table[start + torch.arange(n, device=x.device)]
        if not torch.onnx.is_in_onnx_export() and n > self.table.shape[0]:
            return x + waves(n, x.shape[2]).to(self.table)
        return x + self.table[:n]


def waves(length: int, d_model: int) -> Float[Tensor, "tokens d_model"]:
    """P of the first `length` positions, float64."""
    channel = torch.arange(d_model)
    frequency = BASE ** (-(channel - channel % 2).double() / d_model)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())
