"""No activation: u; as a gate it makes the bilinear form.

Source: Shazeer 2020, arXiv:2002.05202, who cites Mnih and Hinton 2007.
"""

from jaxtyping import Float
from torch import Tensor, nn


class Identity(nn.Module):
    """Gives back what it gets."""

    def forward(self, u: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        return u
