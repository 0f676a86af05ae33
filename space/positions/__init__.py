"""Positions: one file per choice, one union of their configs."""

from typing import TYPE_CHECKING

from ..choice import PositionChoice
from ..plugins import family, tagged_union
from .alibi import AlibiConfig
from .decay import DecayConfig
from .learned import LearnedPositionConfig
from .none import NonePositionConfig
from .rope import RopeConfig
from .sinusoidal import SinusoidalPositionConfig
from .t5_bias import T5BiasConfig

POSITIONS: dict[str, type[PositionChoice]] = family(
    "positions",
    PositionChoice,
    (
        NonePositionConfig,
        LearnedPositionConfig,
        RopeConfig,
        AlibiConfig,
        T5BiasConfig,
        DecayConfig,
        SinusoidalPositionConfig,
    ),
)
"""Tag -> config, those of installed packages last."""

if TYPE_CHECKING:
    PositionConfig = PositionChoice
else:
    PositionConfig = tagged_union(POSITIONS)

__all__ = [
    "POSITIONS",
    "AlibiConfig",
    "DecayConfig",
    "LearnedPositionConfig",
    "NonePositionConfig",
    "PositionConfig",
    "RopeConfig",
    "SinusoidalPositionConfig",
    "T5BiasConfig",
]
