"""Linear maps of a model and how they start.

    W ~ N(0, 0.02^2) cut at two deviations
    times 1 / sqrt(2 L) where the map writes into the residual stream of L layers

Source: Radford et al. 2019 (GPT-2, section 2.3) for the residual factor; no biases.
"""

import math

from torch import Tensor, nn

INIT_STD = 0.02


def start(weight: Tensor, *, std: float = INIT_STD) -> None:
    """Fills in place, from torch's global generator."""
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def linear(in_features: int, out_features: int) -> nn.Linear:
    """A map that reads the residual stream."""
    module = nn.Linear(in_features, out_features, bias=False)
    start(module.weight)
    return module


def residual_linear(in_features: int, out_features: int, num_layers: int) -> nn.Linear:
    """A map that writes into the residual stream, one of two per layer."""
    module = nn.Linear(in_features, out_features, bias=False)
    start(module.weight, std=INIT_STD / math.sqrt(2 * num_layers))
    return module
