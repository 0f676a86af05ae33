"""No position encoding: a causal stack still sees order through its mask.

Source: Kazemnejad et al. 2023, arXiv:2305.19466.
"""

from typing import Literal

from torch import nn

from ..choice import PositionChoice, Surroundings


class NonePositionConfig(PositionChoice):
    """Adds nothing."""

    kind: Literal["none"] = "none"

    def build(self, surroundings: Surroundings) -> nn.Module:
        return nn.Identity()

    def params(self, d_model: int, context_length: int) -> int:
        return 0
