"""The activation of a gate inside a mixer: a gene of its own, apart from the feed-forward's."""

from typing import Literal, get_args

from ..gene import LayerGene

MixerActivation = Literal["gelu", "silu", "relu"]

MIXER_ACTIVATION = LayerGene(
    "mixer_activation",
    ("gelu",),
    "Nonlinearity of the gate of a mixer that is a gated map.",
    values=get_args(MixerActivation),
)
