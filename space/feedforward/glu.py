"""Gated feed-forward: ReGLU, GEGLU, SwiGLU or the squared-rectifier form, by the activation.

    y = (act(x W_a) * (x W_b)) W_o

Source: Shazeer 2020, arXiv:2002.05202. W_a and W_b are stored as one weight, rows of W_a first.
"""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..activations import ActivationName, build_activation
from ..choice import FeedForwardChoice, Surroundings
from ..projection import linear, residual_linear
from ..roles import ParameterRole


class GluConfig(FeedForwardChoice):
    """Gate and value of width `d_ff` each."""

    kind: Literal["glu"] = "glu"
    activation: ActivationName = "silu"
    d_ff: int = Field(ge=1, le=262_144, description="Width of the gated hidden layer.")

    def build(self, surroundings: Surroundings) -> "Glu":
        return Glu(surroundings.d_model, self.d_ff, self.activation, surroundings.num_layers)

    def matrices(self, d_model: int) -> tuple[tuple[int, int], ...]:
        return ((d_model, 2 * self.d_ff), (self.d_ff, d_model))

    def params(self, d_model: int) -> int:
        return 3 * d_model * self.d_ff

    def macs(self, d_model: int, tokens: int) -> int:
        return tokens * self.params(d_model)

    def activation_size(self, d_model: int, tokens: int) -> int:
        """Input, gate and value; later the product beside the output, which is less."""
        return tokens * (d_model + 2 * self.d_ff)


class Glu(nn.Module):
    """`hidden` is where proxies read the gated hidden layer."""

    def __init__(self, d_model: int, d_ff: int, activation: ActivationName, num_layers: int) -> None:
        super().__init__()
        self.d_ff = d_ff
        self.gate_up = linear(d_model, 2 * d_ff)
        self.activation = build_activation(activation)
        self.hidden = nn.Identity()
        self.down = residual_linear(d_ff, d_model, num_layers)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {
            "gate_up.weight": ParameterRole("ffn.gate", parts=(self.d_ff, self.d_ff)),
            "down.weight": ParameterRole("ffn.out"),
        }

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        gate, up = self.gate_up(x).split(self.d_ff, dim=-1)
        mixed: Tensor = self.down(self.hidden(self.activation(gate) * up))
        return mixed


def glu_reference(
    x: Float[Tensor, "*axes d_model"],
    gate: Float[Tensor, "d_ff d_model"],
    up: Float[Tensor, "d_ff d_model"],
    out: Float[Tensor, "d_model d_ff"],
    activation: nn.Module,
) -> Float[Tensor, "*axes d_model"]:
    """The definition, with separate weights."""
    hidden: Tensor = activation(x @ gate.T) * (x @ up.T)
    return hidden @ out.T
