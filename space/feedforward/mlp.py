"""Two-layer feed-forward.

    y = act(x W_1) W_2

Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.3; without biases.
"""

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from ..activations import ActivationName, build_activation
from ..choice import FeedForwardChoice, Surroundings
from ..projection import linear, residual_linear
from ..roles import ParameterRole


class MlpConfig(FeedForwardChoice):
    """One hidden layer of width `d_ff`."""

    kind: Literal["mlp"] = "mlp"
    activation: ActivationName = "gelu"
    d_ff: int = Field(ge=1, le=262_144, description="Hidden width.")

    def build(self, surroundings: Surroundings) -> "Mlp":
        return Mlp(surroundings.d_model, self.d_ff, self.activation, surroundings.num_layers)

    def matrices(self, d_model: int) -> tuple[tuple[int, int], ...]:
        return ((d_model, self.d_ff), (self.d_ff, d_model))

    def params(self, d_model: int) -> int:
        return 2 * d_model * self.d_ff

    def macs(self, d_model: int, tokens: int) -> int:
        return tokens * self.params(d_model)

    def activation_size(self, d_model: int, tokens: int) -> int:
        """Input and hidden layer, then hidden layer and output."""
        return tokens * (self.d_ff + d_model)


class Mlp(nn.Module):
    """`hidden` is where proxies read the hidden layer after the activation."""

    def __init__(self, d_model: int, d_ff: int, activation: ActivationName, num_layers: int) -> None:
        super().__init__()
        self.up = linear(d_model, d_ff)
        self.activation = build_activation(activation)
        self.hidden = nn.Identity()
        self.down = residual_linear(d_ff, d_model, num_layers)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"up.weight": ParameterRole("ffn.in"), "down.weight": ParameterRole("ffn.out")}

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        mixed: Tensor = self.down(self.hidden(self.activation(self.up(x))))
        return mixed
