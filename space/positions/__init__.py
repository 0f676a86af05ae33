"""Positions: one file per choice, one union of their configs."""

from typing import TYPE_CHECKING

from ..choice import PositionChoice
from ..plugins import family, tagged_union
from .alibi import AlibiConfig
from .learned import LearnedPositionConfig
from .none import NonePositionConfig
from .rope import RopeConfig

POSITIONS: dict[str, type[PositionChoice]] = family(
    "positions",
    PositionChoice,
    (
        NonePositionConfig,
        LearnedPositionConfig,
        RopeConfig,
        AlibiConfig,
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
    "LearnedPositionConfig",
    "NonePositionConfig",
    "PositionConfig",
    "RopeConfig",
]
