"""Gaussian error linear unit, exact form: u * Phi(u), Phi the normal distribution function.

Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Gelu(nn.Module):
    """Elementwise."""

    def forward(self, u: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        return functional.gelu(u)
