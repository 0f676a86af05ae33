"""Gaussian error linear unit, hyperbolic-tangent form: u (1 + tanh(sqrt(2/pi) (u + 0.044715 u^3))) / 2.

Within 5e-4 of `gelu`. Source: Hendrycks and Gimpel 2016, arXiv:1606.08415.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class GeluTanh(nn.Module):
    """Elementwise."""

    def forward(self, u: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        return functional.gelu(u, approximate="tanh")
