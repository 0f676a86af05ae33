"""SNIP: how much the loss changes when single weights are taken away.

    S = sum over weights of |theta * dL/dtheta|        (matrices of mixers and feed-forwards)

The gradient with respect to a mask of ones is theta * g, so no masks are needed. Source: Lee et al. 2019,
arXiv:1810.02340; as a proxy: Abdelfattah et al. 2021, arXiv:2101.08134.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score


class Snip(Proxy):
    id = "snip"
    version = 1
    direction = "max"
    needs = frozenset({"gradients"})
    summary = "weights times their gradients, in size"

    def score(self, passes: Passes) -> Score:
        terms = [float((m.value * m.gradient).abs().sum()) for m in passes.matrices if m.gradient is not None]
        if not terms:
            raise UnsupportedError("snip: no mixer or feed-forward has a weight matrix")
        return Score(math.fsum(terms))
