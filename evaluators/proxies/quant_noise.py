"""Quantization noise: how little the architecture's number formats change its activations.

    n_l = sum ||Y_l - Y_l^q||^2 / sum ||Y_l||^2        S = -sum over blocks and the logits of log10 n_l

Y_l the output of block l and Y_l^q the same in the number formats, as they really run here. Noise below the
rounding of float32 itself, 2^-48, counts as that. Untrained weights have no outliers, so that this is too
good; `passes.quantization_noise` measures a trained model the same way. Source: ours.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score

FLOOR = 2.0**-48


class QuantNoise(Proxy):
    id = "quant_noise"
    version = 1
    direction = "max"
    needs = frozenset({"noise"})
    summary = "how little number formats change the activations"

    def score(self, passes: Passes) -> Score:
        if not passes.noise:
            raise UnsupportedError("quant_noise: the network has no number formats of its own")
        return Score(noise_score(passes.noise), {"logits": -decades(passes.noise[-1])})


def noise_score(noise: tuple[float, ...]) -> float:
    """NaN where a state is 0 or not finite."""
    return -math.fsum(decades(one) for one in noise)


def decades(noise: float) -> float:
    """log10, not below that of float32's own rounding."""
    return math.log10(max(noise, FLOOR)) if math.isfinite(noise) else math.nan
