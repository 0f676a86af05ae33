"""Root mean square normalisation over the channels of each token.

    y = x / sqrt(mean(x^2) + 1e-6) * gain

Source: Zhang and Sennrich 2019, arXiv:1910.07467.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..choice import Norm, NormChoice
from ..kernels.dispatch import OBSERVED, fused
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

    def after_sum(
        self,
        x: Float[Tensor, "*axes d_model"],
        branch: Float[Tensor, "... d_model"],
        mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> tuple[Float[Tensor, "*axes d_model"], Float[Tensor, "*axes d_model"]]:
        def unless() -> str | None:
            if x.shape != branch.shape:
                return "a sum of two shapes"
            return OBSERVED if self._forward_hooks or self._forward_pre_hooks else None

        if (run := fused("add_rms_norm", x, branch, self.gain, unless=unless)) is not None:
            y, total = run(x, branch, self.gain, EPS)
            return y, total
        return super().after_sum(x, branch, mask)


def rmsnorm(
    x: Float[Tensor, "*axes d_model"], gain: Float[Tensor, " d_model"]
) -> Float[Tensor, "*axes d_model"]:
    """The definition is also the form that runs on CPU: power, mean, root and division in this order.

    ONNX Runtime recognises exactly this chain and runs it as one operator; `torch.rsqrt` would hide it.
    """
    if (run := fused("rms_norm", x, gain)) is not None:
        y: Tensor = run(x, gain, EPS)
        return y
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    normed = wide / torch.sqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)
    return normed.to(x.dtype) * gain
