"""A learned vector per absolute position, added to the embedding.

    x_i <- x_i + P_i,   P [context_length, d_model]

Source: Gehring et al. 2017, arXiv:1705.03122, section 3.1.
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..choice import MixerChoice, PositionChoice, PositionModule, Surroundings
from ..errors import InvalidInputError
from ..projection import start
from ..roles import ParameterRole


class LearnedPositionConfig(PositionChoice):
    """Does not reach beyond the context length."""

    direction_aware: ClassVar[bool] = True
    on_tokens: ClassVar[bool] = True

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
        n = x.shape[1]
        if start is not None:
            return x + self.table[start + torch.arange(n, device=x.device)]
        if not torch.onnx.is_in_onnx_export() and n > self.table.shape[0]:
            raise InvalidInputError(
                f"{n} tokens are more than the {self.table.shape[0]} learned positions; cut the input"
            )
        return x + self.table[:n]
