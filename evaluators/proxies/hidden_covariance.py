"""Hidden covariance: whether examples leave different states behind every block.

    h_b = state of example b after a block, mean over the tokens (the last token in a causal model)
    S   = sum over blocks of -sum over v of log(v + k) + 1 / (v + k),   k = 1e-5

v the eigenvalues of the correlation matrix of h_1 .. h_B. Compares at equal B only. Made for recurrent cells;
unproven for transformers. Source: Serianni and Kalita 2023, ACL.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score
from ..spectra import log_eigenvalue_score


class HiddenCovariance(Proxy):
    id = "hidden_covariance"
    version = 1
    direction = "max"
    needs = frozenset({"features"})
    summary = "correlation of examples' states after every block"

    def score(self, passes: Passes) -> Score:
        if not passes.features or len(passes.features[0]) < 2:
            raise UnsupportedError("hidden_covariance: there are no two examples behind a block")
        states = [block[:, -1] if passes.is_causal else block.mean(1) for block in passes.features]
        scores = [log_eigenvalue_score(state) for state in states]
        return Score(math.fsum(scores), {"first_block": scores[0]})
