"""Squared rectifier: max(u, 0)^2.

Source: So et al. 2021, arXiv:2109.08668 (Primer).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..kernels.dispatch import fused


class Relu2(nn.Module):
    """Elementwise. The square is taken in float32 where float16 would overflow (u > 255)."""

    def forward(self, u: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        if (run := fused("relu2", u)) is not None:
            y: Tensor = run(u)
            return y
        rectified = functional.relu(u)
        if u.dtype == torch.float16:
            limit = torch.finfo(u.dtype).max
            return rectified.float().square().clamp(max=limit).to(u.dtype)
        return rectified * rectified
