"""DSS: diversity of the mixers' and saliency of all other matrices, without data.

    S = sum over mixers of ||W||_* ||g||_*  +  sum over feed-forwards, embedding and head of sum |W * g|

W absolute weights, g the gradient of the sum of logits for an input of ones; norms and nonlinearities stay.
The first term is orders of magnitude larger, so that S is nearly that; both stand beside it, for whoever
averages their ranks. Source: Zhou et al. 2022, arXiv:2203.12217 (TF-TAS), as its code computes it, but query,
key and value matrices one by one.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score
from ..spectra import nuclear_norm


class Dss(Proxy):
    id = "dss"
    version = 1
    direction = "max"
    needs = frozenset({"positive"})
    summary = "diversity of mixers and saliency of the rest, for an input of ones"

    def score(self, passes: Passes) -> Score:
        pairs = [(m.role, m.value, m.gradient) for m in passes.positive if m.gradient is not None]
        if not pairs:
            raise UnsupportedError("dss: the architecture has no weight matrix")
        mixers = [(w, g) for role, w, g in pairs if role.startswith("mixer.")]
        others = [(w, g) for role, w, g in pairs if not role.startswith("mixer.")]
        diversity = math.fsum(nuclear_norm(w) * nuclear_norm(g) for w, g in mixers)
        saliency = math.fsum(float((w * g).abs().sum()) for w, g in others)
        return Score(diversity + saliency, {"diversity": diversity, "saliency": saliency})
