"""A learned vector per absolute position, added to the embedding.

    x_i <- x_i + P_i,   P [context_length, d_model]

Source: Gehring et al. 2017, arXiv:1705.03122, section 3.1.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..choice import MixerChoice, PositionChoice, PositionModule, Surroundings
from ..projection import start
from ..roles import ParameterRole


class LearnedPositionConfig(PositionChoice):
    """Does not reach beyond the context length."""

    kind: Literal["learned"] = "learned"

    def build(self, at: Surroundings) -> "LearnedPosition":
        return LearnedPosition(at.context_length, at.d_model)

    def params(self, at: Surroundings, mixers: tuple[MixerChoice, ...]) -> int:
        return at.context_length * at.d_model


class LearnedPosition(PositionModule):
    """Table of one vector per position."""

    def __init__(self, context_length: int, d_model: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(context_length, d_model))
        start(self.table)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"table": ParameterRole("pos")}

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], start: Int[Tensor, ""] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        if start is None:
            return x + self.table[: x.shape[1]]
        return x + self.table[start + torch.arange(x.shape[1], device=x.device)]
