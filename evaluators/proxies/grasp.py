"""GraSP: whether weights keep the gradient flowing.

    S = sum over weights of -theta * (H g),   g = dL/dtheta held fixed, H the Hessian of L

Very noisy, and three times the work of a backward pass. The sign differs between papers and codes; this is
the one under which larger is better there. Source: Wang et al. 2020, arXiv:2002.07376; as a proxy:
Abdelfattah et al. 2021, arXiv:2101.08134.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score


class Grasp(Proxy):
    id = "grasp"
    version = 1
    direction = "max"
    needs = frozenset({"curvature"})
    summary = "what the weights do to the flow of the gradient"
    num_seeds = 3

    def score(self, passes: Passes) -> Score:
        terms = [-float((m.value * m.curvature).sum()) for m in passes.matrices if m.curvature is not None]
        if not terms:
            raise UnsupportedError("grasp: no mixer or feed-forward has a weight matrix")
        return Score(math.fsum(terms))
