"""Synaptic diversity: how many directions of the mixers' matrices the task loss pulls on.

    S = sum over matrices W of the mixers of ||W||_* ||dL/dW||_*      (nuclear norms, L the mean task loss)

Source: Zhou et al. 2022, arXiv:2203.12217 (the attention half of their DSS). Different here: the task loss
instead of a sum of outputs, and query, key and value matrices one by one where a module stores them fused.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score
from ..spectra import nuclear_norm


class SynapticDiversity(Proxy):
    id = "synaptic_diversity"
    version = 1
    direction = "max"
    needs = frozenset({"gradients"})
    summary = "nuclear norms of the mixers' weights and of their gradients"

    def score(self, passes: Passes) -> Score:
        """Grows with the scale of the loss and the number of matrices: compare on one probe batch only."""
        pairs = [
            (matrix.value, matrix.gradient)
            for matrix in passes.matrices
            if matrix.role.startswith("mixer.") and matrix.gradient is not None
        ]
        if not pairs:
            raise UnsupportedError(
                "synaptic_diversity: no mixer of the architecture has a weight matrix; use other proxies"
            )
        products = [nuclear_norm(value) * nuclear_norm(gradient) for value, gradient in pairs]
        return Score(math.fsum(products), {"matrices": float(len(products))})
