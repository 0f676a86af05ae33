"""Gated feed-forward, by its gate: GLU, GEGLU, SwiGLU, ReGLU, squared rectifier, bilinear.

    y = (act(x W_a) * (x W_b)) W_o

Source: Shazeer 2020, arXiv:2002.05202. W_a and W_b are stored as one weight, rows of W_a first.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from ..activations import GATE, GateActivation, build_activation, gate_name
from ..choice import FeedForward, FeedForwardChoice, LinearMap, Surroundings
from ..gene import FF_RATIO, LayerGene
from ..kernels.dispatch import OBSERVED, fused
from ..projection import read, write


class GluConfig(FeedForwardChoice):
    """Gate and value of width `d_ff` each."""

    genes: ClassVar[Mapping[str, LayerGene]] = {"activation": GATE, "d_ff": FF_RATIO}
    width_factor: ClassVar[Fraction] = Fraction(2, 3)

    kind: Literal["glu"] = "glu"
    activation: GateActivation = "silu"
    d_ff: int = Field(ge=1, le=262_144, description="Width of the gated hidden layer.")

    def build(self, at: Surroundings) -> "Glu":
        gate_up = read(at, (self.d_ff, self.d_ff), "ffn.gate")
        activation = build_activation(self.activation)
        return Glu(self.d_ff, gate_up, activation, down=write(at, self.d_ff, "ffn.out"))

    def halved(self) -> "GluConfig":
        return self.model_copy(update={"d_ff": max(1, self.d_ff // 2)})

    def maps(self, at: Surroundings) -> tuple[LinearMap, ...]:
        return (LinearMap(at.d_model, (self.d_ff, self.d_ff)), LinearMap(self.d_ff, (at.d_model,)))

    def activation_size(self, at: Surroundings, tokens: int) -> int:
        """Input, gate and value; later the product beside the output, which is less."""
        return tokens * (at.d_model + 2 * self.d_ff)


class Glu(FeedForward):
    """`hidden` is where proxies read the gated hidden layer."""

    is_gated = True

    def __init__(self, d_ff: int, gate_up: nn.Module, activation: nn.Module, *, down: nn.Module) -> None:
        super().__init__()
        self.d_ff = d_ff
        self.gate_up = gate_up
        self.activation = activation
        self.hidden = nn.Identity()
        self.down = down

    def nonlinearities(self) -> tuple[nn.Module, ...]:
        """That of the gate."""
        return (self.activation,)

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        mixed: Tensor = self.down(self.hidden(gated(self.activation, self.gate_up(x), self.d_ff)))
        return mixed


def gated(
    activation: nn.Module, packed: Float[Tensor, "*axes two_d_ff"], d_ff: int
) -> Float[Tensor, "*axes d_ff"]:
    """act(gate) * up of rows that hold the gate and then up."""
    if (run := fused("gated", packed, unless=None if gate_name(activation) else OBSERVED)) is not None:
        product: Tensor = run(packed, gate_name(activation))
        return product
    gate, up = torch.split(packed, d_ff, dim=-1)
    plain: Tensor = activation(gate) * up
    return plain


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
