"""Norms: one file per choice, one union of their configs."""

from typing import TYPE_CHECKING

from ..choice import NormChoice
from ..plugins import family, tagged_union
from .layernorm import LayerNormConfig
from .prepbn import PRepBNConfig
from .rmsnorm import RMSNormConfig

NORMS: dict[str, type[NormChoice]] = family(
    "norms",
    NormChoice,
    (
        LayerNormConfig,
        RMSNormConfig,
        PRepBNConfig,
    ),
)
"""Tag -> config, those of installed packages last."""

if TYPE_CHECKING:
    NormConfig = NormChoice
else:
    NormConfig = tagged_union(NORMS)

__all__ = ["NORMS", "LayerNormConfig", "NormConfig", "PRepBNConfig", "RMSNormConfig"]
