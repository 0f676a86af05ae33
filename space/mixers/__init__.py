"""Token mixers: one file per choice, one union of their configs."""

from typing import Annotated

from pydantic import Field

from .gated_conv import GatedConvConfig
from .linear_elu import LinearEluConfig
from .pool import PoolConfig
from .sliding_window import SlidingWindowConfig
from .softmax import SoftmaxConfig

MixerConfig = Annotated[
    SoftmaxConfig | LinearEluConfig | SlidingWindowConfig | GatedConvConfig | PoolConfig,
    Field(discriminator="kind"),
]

__all__ = [
    "GatedConvConfig",
    "LinearEluConfig",
    "MixerConfig",
    "PoolConfig",
    "SlidingWindowConfig",
    "SoftmaxConfig",
]
