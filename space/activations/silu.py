"""Sigmoid-weighted linear unit: u * sigmoid(u).

Source: Elfwing et al. 2017, arXiv:1702.03118.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Silu(nn.Module):
    """Elementwise."""

    def forward(self, u: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        return functional.silu(u)
