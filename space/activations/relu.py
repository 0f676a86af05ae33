"""Rectifier: max(u, 0).

Source: Nair and Hinton 2010, ICML.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Relu(nn.Module):
    """Elementwise."""

    def forward(self, u: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        return functional.relu(u)
