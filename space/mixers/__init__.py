"""Token mixers: one file per choice, one union of their configs."""

from typing import TYPE_CHECKING

from ..choice import MixerChoice
from ..plugins import family, tagged_union
from .axial import AxialConfig
from .block_local import BlockLocalConfig
from .cosformer import CosformerConfig
from .dct import DctConfig
from .dft import DftConfig
from .dynconv import DynconvConfig
from .gated_conv import GatedConvConfig
from .gla import GlaConfig
from .glu_only import GluOnlyConfig
from .linear_elu import LinearEluConfig
from .mamba import MambaConfig
from .mamba2 import Mamba2Config
from .norm_linear import NormLinearConfig
from .pool import PoolConfig
from .retention import RetentionConfig
from .sla import SlaConfig
from .sliding_window import SlidingWindowConfig
from .softmax import SoftmaxConfig
from .token_glu import TokenGluConfig

MIXERS: dict[str, type[MixerChoice]] = family(
    "mixers",
    MixerChoice,
    (
        SoftmaxConfig,
        LinearEluConfig,
        CosformerConfig,
        NormLinearConfig,
        SlaConfig,
        RetentionConfig,
        GlaConfig,
        MambaConfig,
        Mamba2Config,
        SlidingWindowConfig,
        BlockLocalConfig,
        AxialConfig,
        GatedConvConfig,
        PoolConfig,
        DctConfig,
        DftConfig,
        DynconvConfig,
        GluOnlyConfig,
        TokenGluConfig,
    ),
)
"""Tag -> config, those of installed packages last."""

if TYPE_CHECKING:
    MixerConfig = MixerChoice
else:
    MixerConfig = tagged_union(MIXERS)

__all__ = [
    "MIXERS",
    "AxialConfig",
    "BlockLocalConfig",
    "CosformerConfig",
    "DctConfig",
    "DftConfig",
    "DynconvConfig",
    "GatedConvConfig",
    "GlaConfig",
    "GluOnlyConfig",
    "LinearEluConfig",
    "Mamba2Config",
    "MambaConfig",
    "MixerConfig",
    "NormLinearConfig",
    "PoolConfig",
    "RetentionConfig",
    "SlaConfig",
    "SlidingWindowConfig",
    "SoftmaxConfig",
    "TokenGluConfig",
]
