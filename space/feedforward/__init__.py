"""Feed-forwards: one file per choice, one union of their configs."""

from typing import TYPE_CHECKING

from ..choice import FeedForwardChoice
from ..plugins import family, tagged_union
from .glu import GluConfig
from .mlp import MlpConfig
from .moe import MoeConfig
from .nested import NestedConfig
from .none import NoFeedForwardConfig

FEED_FORWARDS: dict[str, type[FeedForwardChoice]] = family(
    "feed_forwards",
    FeedForwardChoice,
    (
        MlpConfig,
        GluConfig,
        MoeConfig,
        NestedConfig,
        NoFeedForwardConfig,
    ),
)
"""Tag -> config, those of installed packages last."""

if TYPE_CHECKING:
    FeedForwardConfig = FeedForwardChoice
else:
    FeedForwardConfig = tagged_union(FEED_FORWARDS)

__all__ = [
    "FEED_FORWARDS",
    "FeedForwardConfig",
    "GluConfig",
    "MlpConfig",
    "MoeConfig",
    "NestedConfig",
    "NoFeedForwardConfig",
]
