"""Positions: one file per choice, one union of their configs."""

from typing import Annotated

from pydantic import Field

from .alibi import AlibiConfig
from .learned import LearnedPositionConfig
from .none import NonePositionConfig
from .rope import RopeConfig

PositionConfig = Annotated[
    NonePositionConfig | LearnedPositionConfig | RopeConfig | AlibiConfig, Field(discriminator="kind")
]

__all__ = ["AlibiConfig", "LearnedPositionConfig", "NonePositionConfig", "PositionConfig", "RopeConfig"]
