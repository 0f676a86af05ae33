"""Logistic function: 1 / (1 + exp(-u)); as a gate it makes the gated linear unit.

Source: Dauphin et al. 2016, arXiv:1612.08083.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Sigmoid(nn.Module):
    """Elementwise."""

    def forward(self, u: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        return torch.sigmoid(u)
