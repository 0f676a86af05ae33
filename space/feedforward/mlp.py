"""Feed-forward of one to three hidden layers.

    y = act(x W_1) W_2                                     one hidden layer
    y = act(act(act(x W_1) W_h1) W_h2) W_2                 three

Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.3; without biases. More hidden layers: Tuli et al.
2022, arXiv:2205.11656 (FlexiBERT).
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ..activations import (
    ACTIVATION,
    HiddenActivation,
    activation_buffers,
    activation_params,
    build_activation,
)
from ..choice import FeedForward, FeedForwardChoice, LinearMap, Surroundings, off
from ..gene import FF_RATIO, LayerGene
from ..projection import read, write

NUM_HIDDEN = LayerGene(
    "num_hidden", (1,), "Hidden layers of an ordinary feed-forward.", least=1, most=3,
    rare=True, independent=True,
)  # fmt: skip


class MlpConfig(FeedForwardChoice):
    """Hidden layers of width `d_ff`, an activation after each."""

    genes: ClassVar[Mapping[str, LayerGene]] = {
        "activation": ACTIVATION,
        "d_ff": FF_RATIO,
        "num_hidden": NUM_HIDDEN,
    }

    kind: Literal["mlp"] = "mlp"
    activation: HiddenActivation = "gelu"
    d_ff: int = Field(ge=1, le=262_144, description="Hidden width.")
    num_hidden: int = off(1, ge=1, le=3, description="Hidden layers.")

    def build(self, at: Surroundings) -> "Mlp":
        up = read(at, self.d_ff, "ffn.in")
        deeper: list[nn.Module] = []
        for _ in range(self.num_hidden - 1):
            deeper += [
                read(at, self.d_ff, "ffn.in", inputs=self.d_ff),
                build_activation(self.activation),
            ]
        return Mlp(up, build_activation(self.activation), *deeper, down=write(at, self.d_ff, "ffn.out"))

    def halved(self) -> "MlpConfig":
        return self.model_copy(update={"d_ff": max(1, self.d_ff // 2)})

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        deeper = (LinearMap(self.d_ff, (self.d_ff,)),) * (self.num_hidden - 1)
        return (LinearMap(at.d_model, (self.d_ff,)), *deeper, LinearMap(self.d_ff, (at.d_model,)))

    def own_params(self, at: Surroundings) -> int:
        """Of trainable activations."""
        return self.num_hidden * activation_params(self.activation)

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input and hidden layer, one hidden layer and the next, the activation's own, or the output."""
        beside = max(activation_buffers(self.activation), 1 if self.num_hidden > 1 else 0)
        return tokens * max(self.d_ff + at.d_model, (1 + beside) * self.d_ff)


class Mlp(FeedForward):
    """`deeper`: map and activation of every further hidden layer. `hidden` shows the last of them."""

    def __init__(self, up: nn.Module, activation: nn.Module, *deeper: nn.Module, down: nn.Module) -> None:
        super().__init__()
        self.up = up
        self.activation = activation
        self.deeper = nn.Sequential(*deeper)
        self.hidden = nn.Identity()
        self.down = down

    def nonlinearities(self) -> tuple[nn.Module, ...]:
        """One per hidden layer."""
        return (self.activation, *list(self.deeper)[1::2])

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        mixed: Tensor = self.down(self.hidden(self.deeper(self.activation(self.up(x)))))
        return mixed


def mlp_reference(
    x: Float[Tensor, "*axes d_model"], weights: tuple[Tensor, ...], activation: nn.Module
) -> Float[Tensor, "*axes d_model"]:
    """The definition; weights [out, in] from the first to the last, one activation between two of them."""
    *hidden, last = weights
    for weight in hidden:
        x = activation(x @ weight.T)
    return x @ last.T
