"""Fisher: how much the loss changes when single channels are taken away.

    Delta_c = mean over examples b of ( sum over tokens of Z * dL/dZ )^2 / 2        S = sum of Delta_c

Z the outputs of mixers and the hidden layers of feed-forwards, L the mean loss of the batch. Experts see
tokens out of order and are left out. Source: Turner et al. 2020, arXiv:1906.04113; as a proxy: Abdelfattah et
al. 2021, arXiv:2101.08134. The plain sum over channels; the released code multiplies each by its fan-in.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score


class Fisher(Proxy):
    id = "fisher"
    version = 1
    direction = "max"
    needs = frozenset({"activation_gradients"})
    summary = "activations times their gradients, squared, per channel"

    def score(self, passes: Passes) -> Score:
        """Falls with the square of the batch: compare at equal batch only."""
        if not passes.activation_gradients:
            raise UnsupportedError("fisher: no mixer or feed-forward has activations a token apart")
        terms = [float(rows.double().square().mean(0).sum()) / 2 for rows in passes.activation_gradients]
        return Score(math.fsum(terms))
