"""Rotary positions: pairs of query and key channels turn by an angle that grows with the position.

    theta_k = 10000^(-2k/h),  k = 0 .. floor(h/2) - 1
    (u_k, u_{k + floor(h/2)}) <- rotation of the pair by the angle position * theta_k

Source: Su et al. 2021, arXiv:2104.09864; half-split layout, positions from 0. The last channel of an odd head
width never turns. Acts inside the mixers that read it.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..choice import PositionChoice

BASE = 10_000.0


class RopeConfig(PositionChoice):
    """Scores depend on positions through their difference only."""

    kind: Literal["rope"] = "rope"


class Rotary(nn.Module):
    """Tables for every position of the context, applied to heads of one width."""

    cos: Tensor
    sin: Tensor

    def __init__(self, context_length: int, head_width: int) -> None:
        super().__init__()
        cos, sin = rotary_tables(context_length, head_width)
        self.register_buffer("cos", cos.float(), persistent=False)
        self.register_buffer("sin", sin.float(), persistent=False)

    def forward(
        self, heads: Float[Tensor, "batch heads tokens width"]
    ) -> Float[Tensor, "batch heads tokens width"]:
        n = heads.shape[2]
        return rotate(heads, self.cos[:n], self.sin[:n])


def rotary_tables(
    length: int, head_width: int, *, first: int = 0
) -> tuple[Float[Tensor, "tokens width"], Float[Tensor, "tokens width"]]:
    """Factors of a channel and of its partner at positions `first`, `first + 1`, ...; float64.

    cos theta for both channels of a pair and 1 for a channel without partner; -sin theta, sin theta and 0.
    """
    half = head_width // 2
    theta = BASE ** (-2.0 * torch.arange(half, dtype=torch.float64) / head_width)
    position = torch.arange(first, first + length, dtype=torch.float64)
    angle = position[:, None] * theta[None, :]
    cos, sin = angle.cos(), angle.sin()
    single = torch.zeros(length, head_width - 2 * half, dtype=torch.float64)
    return torch.cat([cos, cos, single + 1.0], dim=1), torch.cat([-sin, sin, single], dim=1)


def rotate(
    heads: Float[Tensor, "*axes tokens width"],
    cos: Float[Tensor, "*tables tokens width"],
    sin: Float[Tensor, "*tables tokens width"],
) -> Float[Tensor, "*axes tokens width"]:
    """Every pair turned by its angle: heads * cos + partners * sin."""
    half = cos.shape[-1] // 2
    partners = [heads[..., half : 2 * half], heads[..., :half]]
    if cos.shape[-1] % 2:
        partners.append(heads[..., 2 * half :])
    return heads * cos + torch.cat(partners, dim=-1) * sin


def rotate_reference(
    heads: Float[Tensor, "batch heads tokens width"], *, first: int = 0
) -> Float[Tensor, "batch heads tokens width"]:
    """The definition, pair by pair; the first token stands at position `first`."""
    width = heads.shape[-1]
    half = width // 2
    turned = heads.clone()
    for k in range(half):
        theta = BASE ** (-2.0 * k / width)
        for token in range(heads.shape[2]):
            angle = torch.tensor((first + token) * theta, dtype=torch.float64)
            low, high = heads[:, :, token, k], heads[:, :, token, k + half]
            turned[:, :, token, k] = low * angle.cos() - high * angle.sin()
            turned[:, :, token, k + half] = high * angle.cos() + low * angle.sin()
    return turned
