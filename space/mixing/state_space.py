"""What gated recurrences share: the gene of their width, their small maps, their steps."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..gene import LayerGene
from ..projection import Dense

EXPANSION = LayerGene(
    "ssm_expansion", (2, 1), "Channels with a state over d_model, of Mamba and Mamba-2.", least=1, most=2
)
SHORTEST, LONGEST = 1e-3, 0.1


class SmallMap(Dense):
    """Stays dense and float32 whatever the model's projection form and the layer's number format.

    Gates and steps act through exponentials over many tokens; their maps hold few of the numbers.
    """

    keeps_float = True

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, (outputs,), "mixer.in")


def start_of_steps(count: int) -> Float[Tensor, " count"]:
    """Biases whose softplus is log-uniform in [0.001, 0.1], from torch's global generator."""
    step = torch.exp(torch.empty(count).uniform_(math.log(SHORTEST), math.log(LONGEST)))
    return step + torch.log(-torch.expm1(-step))


def softplus(u: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """ln(1 + e^u).

    Exported in operators that ONNX Runtime vectorises: its own Softplus takes 174 us for 128 x 128 numbers.
    """
    return softplus_explicit(u) if torch.onnx.is_in_onnx_export() else functional.softplus(u)


def log_sigmoid(u: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """ln sigma(u).

    ONNX Runtime's Sigmoid stops falling at u = -18, so the exported form takes no logarithm of it.
    """
    return -softplus_explicit(-u) if torch.onnx.is_in_onnx_export() else functional.logsigmoid(u)


def softplus_explicit(u: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """The same as max(u, 0) + ln(1 + t), t = e^-|u|, with what the sum 1 + t rounds away put back."""
    t = torch.exp(-u.abs())
    total = 1.0 + t
    return torch.relu(u) + torch.log(total) + (t - (total - 1.0)) / total
