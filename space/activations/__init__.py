"""Activations: one file per choice, one closed list of their names."""

from typing import Literal, assert_never, get_args

from torch import nn

from ..gene import ACTIVATION_GENE, LayerGene
from .gelu import Gelu
from .relu import Relu
from .relu2 import Relu2
from .silu import Silu

ActivationName = Literal["relu", "gelu", "silu", "relu2"]

ACTIVATION = LayerGene(
    ACTIVATION_GENE, ("gelu",), "Nonlinearity of the feed-forward.", values=get_args(ActivationName)
)


def build_activation(name: ActivationName) -> nn.Module:
    """Module of this name; elementwise, without parameters."""
    match name:
        case "relu":
            return Relu()
        case "gelu":
            return Gelu()
        case "silu":
            return Silu()
        case "relu2":
            return Relu2()
    assert_never(name)


__all__ = ["ACTIVATION", "ActivationName", "Gelu", "Relu", "Relu2", "Silu", "build_activation"]
