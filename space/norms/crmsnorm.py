"""Norms of a residual stream whose tokens have mean 0: what layer normalisation becomes there.

    full   y = x / sqrt(mean(x^2) + eps)
    CRMS   y = x / sqrt((sum x^2 + (sum x)^2) / d + eps),     x the first d - 1 channels of such a token

The dropped channel is minus the sum of the others. Only `space.norm_conversion` builds them: gain and bias
are in the maps that read them. Source: Jiang et al. 2023, arXiv:2305.14858.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..choice import Norm
from ..kernels.dispatch import fused


class UnscaledRMSNorm(Norm):
    """Power, mean, root and division in the order that ONNX Runtime recognises."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(
        self, x: Float[Tensor, "*axes d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes d_model"]:
        if (run := fused("rms_norm", x)) is not None:
            y: Tensor = run(x, None, self.eps)
            return y
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


class CRMSNorm(Norm):
    """Of a stream that lacks its last channel."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(
        self, x: Float[Tensor, "*axes less"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "*axes less"]:
        if (run := fused("crms_norm", x)) is not None:
            y: Tensor = run(x, self.eps)
            return y
        squares = x.pow(2).sum(-1, keepdim=True) + x.sum(-1, keepdim=True).pow(2)
        return x / torch.sqrt(squares / (x.shape[-1] + 1) + self.eps)
