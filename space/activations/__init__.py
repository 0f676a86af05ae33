"""Activations: one file per choice, one closed list of their names.

Two lists of where they stand: after the hidden layer of an ordinary feed-forward, or on the gate of a gated
one. Trainable ones fit only the former, bounded and linear ones only the latter.
"""

from collections.abc import Mapping
from typing import Literal, get_args

from torch import nn

from ..gene import ACTIVATION_GENE, LayerGene
from .gelu import Gelu
from .gelu_tanh import GeluTanh
from .identity import Identity
from .polynorm import PolyNorm
from .polyrelu import PolyRelu
from .relu import Relu
from .relu2 import Relu2
from .sigmoid import Sigmoid
from .silu import Silu

HiddenActivation = Literal["relu", "gelu", "gelu_tanh", "silu", "relu2", "polyrelu", "polynorm"]
"""What may follow a hidden layer."""

GateActivation = Literal["sigmoid", "gelu", "gelu_tanh", "silu", "relu", "relu2", "identity"]
"""What may gate one."""

ActivationName = Literal[
    "relu", "gelu", "gelu_tanh", "silu", "relu2", "polyrelu", "polynorm", "sigmoid", "identity"
]

_MODULES: Mapping[ActivationName, type[nn.Module]] = {
    "relu": Relu,
    "gelu": Gelu,
    "gelu_tanh": GeluTanh,
    "silu": Silu,
    "relu2": Relu2,
    "polyrelu": PolyRelu,
    "polynorm": PolyNorm,
    "sigmoid": Sigmoid,
    "identity": Identity,
}

_GATES: Mapping[type[nn.Module], ActivationName] = {_MODULES[name]: name for name in get_args(GateActivation)}

_TRAINABLE = 4
"""Numbers of a polynomial of degree 3."""

ACTIVATION = LayerGene(
    ACTIVATION_GENE, ("gelu",), "Nonlinearity of the feed-forward.", values=get_args(HiddenActivation)
)
GATE = LayerGene(
    "ffn_gate", ("silu",), "What gates a gated feed-forward: sigmoid (GLU), gelu (GEGLU), silu (SwiGLU), "
    "relu (ReGLU), relu2, identity (bilinear).", values=get_args(GateActivation), independent=True,
)  # fmt: skip


def build_activation(name: ActivationName) -> nn.Module:
    """Module of this name, for inputs whose last axis is the hidden units."""
    return _MODULES[name]()


def gate_name(module: nn.Module) -> ActivationName | None:
    """Name of an activation that may gate; None for other modules, and for one that hooks watch."""
    return None if module._forward_hooks or module._forward_pre_hooks else _GATES.get(type(module))


def activation_params(name: ActivationName) -> int:
    """Trainable numbers."""
    return _TRAINABLE if name in ("polyrelu", "polynorm") else 0


def activation_buffers(name: ActivationName) -> int:
    """Numbers per hidden unit alive beside the input while it runs: a sum; a square and its square."""
    return {"polyrelu": 1, "polynorm": 2}.get(name, 0)


__all__ = [
    "ACTIVATION",
    "GATE",
    "ActivationName",
    "GateActivation",
    "Gelu",
    "GeluTanh",
    "HiddenActivation",
    "Identity",
    "PolyNorm",
    "PolyRelu",
    "Relu",
    "Relu2",
    "Sigmoid",
    "Silu",
    "activation_buffers",
    "activation_params",
    "build_activation",
    "gate_name",
]
