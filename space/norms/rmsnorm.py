"""Root mean square normalisation over the channels of each token.

    y = x / sqrt(mean(x^2) + 1e-6) * gain

Source: Zhang and Sennrich 2019, arXiv:1910.07467.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..choice import Norm, NormChoice
from ..roles import ParameterRole

EPS = 1e-6


class RMSNormConfig(NormChoice):
    """Scales every token, without centring."""

    kind: Literal["rmsnorm"] = "rmsnorm"

    def build(self, d_model: int) -> "RMSNorm":
        return RMSNorm(d_model)

    def params(self, d_model: int) -> int:
        return d_model


class RMSNorm(Norm):
    """Statistics in float32 at least."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(d_model))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"gain": ParameterRole("norm")}

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        return rmsnorm(x, self.gain)


def rmsnorm(
    x: Float[Tensor, "*axes d_model"], gain: Float[Tensor, " d_model"]
) -> Float[Tensor, "*axes d_model"]:
    """The definition is also the form that runs: power, mean, root and division in this order.

    ONNX Runtime recognises exactly this chain and runs it as one operator; `torch.rsqrt` would hide it.
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    normed = wide / torch.sqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)
    return normed.to(x.dtype) * gain
