"""A learned vector per absolute position, added to the embedding.

    x_i <- x_i + P_i,   P [context_length, d_model]

Source: Gehring et al. 2017, arXiv:1705.03122, section 3.1.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..choice import PositionChoice, Surroundings
from ..projection import start
from ..roles import ParameterRole


class LearnedPositionConfig(PositionChoice):
    """Does not reach beyond the context length."""

    kind: Literal["learned"] = "learned"

    def build(self, surroundings: Surroundings) -> "LearnedPosition":
        return LearnedPosition(surroundings.context_length, surroundings.d_model)

    def params(self, d_model: int, context_length: int) -> int:
        return context_length * d_model


class LearnedPosition(nn.Module):
    """Table of one vector per position."""

    def __init__(self, context_length: int, d_model: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(context_length, d_model))
        start(self.table)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"table": ParameterRole("pos")}

    def forward(self, x: Float[Tensor, "batch tokens d_model"]) -> Float[Tensor, "batch tokens d_model"]:
        return x + self.table[: x.shape[1]]
