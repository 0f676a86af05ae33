"""No position encoding: a causal stack still sees order through its mask.

Source: Kazemnejad et al. 2023, arXiv:2305.19466.
"""

from typing import Literal

from ..choice import PositionChoice


class NonePositionConfig(PositionChoice):
    """Adds nothing."""

    kind: Literal["none"] = "none"
