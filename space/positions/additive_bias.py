"""Positions that add a number to every attention score, by head and by distance.

    score_ij <- score_ij + f_a(i - j)

Acts inside the mixers that read it, through `kernels.attention.ScoreBias`; one file per function f.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..choice import PositionChoice, Surroundings


class RelativeBias(nn.Module):
    """`forward(behind [*pairs]) -> [heads, *pairs]`; `behind` is how far a key stands before its query."""

    is_constant: bool = True
    """Has nothing to train, so that what it gives may be kept."""

    def forward(self, behind: Int[Tensor, "..."]) -> Float[Tensor, "heads ..."]:
        raise NotImplementedError


class AdditivePosition(PositionChoice):
    """A position choice that is a bias of scores."""

    def relative_bias(self, at: Surroundings, num_heads: int) -> RelativeBias:
        """The bias for a mixer of so many query heads; a trained one is the same for all such mixers."""
        raise NotImplementedError


class DistancePenalty(RelativeBias):
    """Falls linearly with the distance to both sides: f_a = -m_a |i - j|, one slope m_a per head.

    In float32 whatever the module's type, so that kept and computed biases are the same numbers.
    """

    slopes: Tensor

    def __init__(self, slopes: Float[Tensor, " heads"]) -> None:
        super().__init__()
        self.register_buffer("slopes", slopes.float(), persistent=False)

    def forward(self, behind: Int[Tensor, "..."]) -> Float[Tensor, "heads ..."]:
        slopes = self.slopes.float().reshape(-1, *(1 for _ in behind.shape))
        return -slopes * behind.abs().float()


def relative_bias(at: Surroundings, num_heads: int) -> RelativeBias | None:
    """What the model's position choice adds to scores; None for a choice that adds nothing there."""
    position = at.position
    return position.relative_bias(at, num_heads) if isinstance(position, AdditivePosition) else None


def penalty_reference(slopes: Float[Tensor, " heads"], tokens: int) -> Float[Tensor, "heads tokens tokens"]:
    """The definition of a distance penalty, pair by pair."""
    rows = [
        torch.stack([torch.stack([-slope * abs(i - j) for j in range(tokens)]) for i in range(tokens)])
        for slope in slopes
    ]
    return torch.stack(rows)
