"""Norms: one file per choice, one union of their configs."""

from typing import Annotated

from pydantic import Field

from .layernorm import LayerNormConfig
from .rmsnorm import RMSNormConfig

NormConfig = Annotated[LayerNormConfig | RMSNormConfig, Field(discriminator="kind")]

__all__ = ["LayerNormConfig", "NormConfig", "RMSNormConfig"]
