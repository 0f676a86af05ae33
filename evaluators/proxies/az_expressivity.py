"""Expressivity of AZ-NAS: how evenly the directions of the residual stream are used.

    p = eigenvalues of the covariance of block l's output over all tokens, over their sum
    S = sum over blocks of -sum p log p        (log d per block when all directions are equal)

On the probe batch; their Gaussian input is the option `gaussian_embedding`. Source: Lee and Ham 2024,
arXiv:2403.19232 (AZ-NAS); its other parts are az_progressivity, az_trainability and macs_prefill.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score
from ..spectra import spectral_entropy


class AzExpressivity(Proxy):
    id = "az_expressivity"
    version = 1
    direction = "max"
    needs = frozenset({"features"})
    summary = "entropy of the directions of the stream, summed over blocks"

    def score(self, passes: Passes) -> Score:
        if not passes.features:
            raise UnsupportedError("az_expressivity: the network shows no blocks")
        entropies = [spectral_entropy(block.flatten(0, 1)) for block in passes.features]
        total = math.fsum(entropies)
        return Score(total, {"mean_per_block": total / len(entropies)})
