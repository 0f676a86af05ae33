"""Progressivity of AZ-NAS: whether every block adds directions to the residual stream.

    S = min over blocks l of E_{l+1} - E_l,   E_l the spectral entropy behind block l, as in az_expressivity

Source: Lee and Ham 2024, arXiv:2403.19232; their code for vision transformers leaves it out.
"""

import itertools
import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score
from ..spectra import spectral_entropy


class AzProgressivity(Proxy):
    id = "az_progressivity"
    version = 1
    direction = "max"
    needs = frozenset({"features"})
    summary = "smallest gain in directions of the stream from block to block"

    def score(self, passes: Passes) -> Score:
        if len(passes.features) < 2:
            raise UnsupportedError("az_progressivity: there are no two blocks one after the other")
        entropies = [spectral_entropy(block.flatten(0, 1)) for block in passes.features]
        if any(math.isnan(entropy) for entropy in entropies):
            return Score(math.nan)
        return Score(min(after - before for before, after in itertools.pairwise(entropies)))
