"""Two-layer feed-forward.

    y = act(x W_1) W_2

Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.3; without biases.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ..activations import ACTIVATION, ActivationName, build_activation
from ..choice import FeedForward, FeedForwardChoice, LinearMap, Surroundings
from ..gene import FF_RATIO, LayerGene
from ..projection import read, write


class MlpConfig(FeedForwardChoice):
    """One hidden layer of width `d_ff`."""

    genes: ClassVar[Mapping[str, LayerGene]] = {"activation": ACTIVATION, "d_ff": FF_RATIO}

    kind: Literal["mlp"] = "mlp"
    activation: ActivationName = "gelu"
    d_ff: int = Field(ge=1, le=262_144, description="Hidden width.")

    def build(self, at: Surroundings) -> "Mlp":
        return Mlp(self.d_ff, self.activation, at)

    def halved(self) -> "MlpConfig":
        return self.model_copy(update={"d_ff": max(1, self.d_ff // 2)})

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        return (LinearMap(at.d_model, (self.d_ff,)), LinearMap(self.d_ff, (at.d_model,)))

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input and hidden layer, then hidden layer and output."""
        return tokens * (self.d_ff + at.d_model)


class Mlp(FeedForward):
    """`hidden` is where proxies read the hidden layer after the activation."""

    def __init__(self, d_ff: int, activation: ActivationName, at: Surroundings) -> None:
        super().__init__()
        self.up = read(at, d_ff, "ffn.in")
        self.activation = build_activation(activation)
        self.hidden = nn.Identity()
        self.down = write(at, d_ff, "ffn.out")

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        mixed: Tensor = self.down(self.hidden(self.activation(self.up(x))))
        return mixed
