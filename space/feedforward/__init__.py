"""Feed-forwards: one file per choice, one union of their configs."""

from typing import Annotated

from pydantic import Field

from .glu import GluConfig
from .mlp import MlpConfig

FeedForwardConfig = Annotated[MlpConfig | GluConfig, Field(discriminator="kind")]

__all__ = ["FeedForwardConfig", "GluConfig", "MlpConfig"]
