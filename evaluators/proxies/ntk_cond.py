"""Condition of the neural tangent kernel.

    Theta = G G^T, row b of G the gradient of example b's random-projection loss in all matrices
    S = -lambda_max / lambda_min

One backward pass per example and memory for all of them: not part of any default. Source: Chen et al. 2021,
arXiv:2102.11535 (TE-NAS), as the code of TF-TAS computes it.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score
from ..spectra import eigenvalues

CAP = 1e12


class NtkCond(Proxy):
    id = "ntk_cond"
    version = 1
    direction = "max"
    needs = frozenset({"example_gradients"})
    summary = "condition of the kernel of examples' gradients"
    num_seeds = 3

    def score(self, passes: Passes) -> Score:
        """`capped` is 1 where the condition is worse than 1e12."""
        if passes.example_gram is None or len(passes.example_gram) < 2:
            raise UnsupportedError("ntk_cond: there are no two examples with gradients of a matrix")
        values = eigenvalues(passes.example_gram)
        if values is None or float(values[-1]) == 0.0:
            return Score(math.nan)
        is_capped = float(values[-1]) > CAP * float(values[0])
        condition = CAP if is_capped else float(values[-1] / values[0])
        return Score(-condition, {"capped": float(is_capped)})
