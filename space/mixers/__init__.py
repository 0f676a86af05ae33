"""Token mixers: one file per choice, one union of their configs."""

from typing import TYPE_CHECKING

from ..choice import MixerChoice
from ..plugins import family, tagged_union
from .gated_conv import GatedConvConfig
from .linear_elu import LinearEluConfig
from .pool import PoolConfig
from .sliding_window import SlidingWindowConfig
from .softmax import SoftmaxConfig

MIXERS: dict[str, type[MixerChoice]] = family(
    "mixers",
    MixerChoice,
    (
        SoftmaxConfig,
        LinearEluConfig,
        SlidingWindowConfig,
        GatedConvConfig,
        PoolConfig,
    ),
)
"""Tag -> config, those of installed packages last."""

if TYPE_CHECKING:
    MixerConfig = MixerChoice
else:
    MixerConfig = tagged_union(MIXERS)

__all__ = [
    "MIXERS",
    "GatedConvConfig",
    "LinearEluConfig",
    "MixerConfig",
    "PoolConfig",
    "SlidingWindowConfig",
    "SoftmaxConfig",
]
