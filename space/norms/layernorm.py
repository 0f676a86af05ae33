"""Layer normalisation over the channels of each token.

    y = (x - mean(x)) / sqrt(var(x) + 1e-5) * gain + bias,   var the biased variance

Source: Ba et al. 2016, arXiv:1607.06450.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ..choice import Norm, NormChoice
from ..roles import ParameterRole

EPS = 1e-5


class LayerNormConfig(NormChoice):
    """Centres and scales every token."""

    kind: Literal["layernorm"] = "layernorm"

    def build(self, d_model: int) -> "LayerNorm":
        return LayerNorm(d_model)

    def params(self, d_model: int) -> int:
        return 2 * d_model


class LayerNorm(Norm):
    """Statistics in float32 at least."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"gain": ParameterRole("norm"), "bias": ParameterRole("norm")}

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        return functional.layer_norm(x, self.gain.shape, self.gain, self.bias, EPS)


def layernorm_reference(
    x: Float[Tensor, "*axes d_model"], gain: Float[Tensor, " d_model"], bias: Float[Tensor, " d_model"]
) -> Float[Tensor, "*axes d_model"]:
    """The definition."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + EPS) * gain + bias
