"""SynFlow in logarithms: what a network with absolute weights, without norms, makes of ones.

    S = log R + log L,   R the sum of outputs of the positive linearised network, L its matrices

In a chain of maps without biases sum theta * dR/dtheta is R for every layer, so that the published score is
L R, and its logarithm loses nothing. How norms, gates and mixers are made linear: `passes.positive`. Source:
Tanaka et al. 2020, arXiv:2006.05467; as a proxy: Abdelfattah et al. 2021, arXiv:2101.08134; this form is
ours. Nearly a measure of size.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score


class SynflowLog(Proxy):
    id = "synflow_log"
    version = 1
    direction = "max"
    needs = frozenset({"flow"})
    summary = "logarithm of the flow through absolute weights, without data"

    def score(self, passes: Passes) -> Score:
        if passes.log_flow is None or not passes.matrices:
            raise UnsupportedError("synflow_log: no mixer or feed-forward has a weight matrix")
        return Score(passes.log_flow + math.log(len(passes.matrices)), {"log_flow": passes.log_flow})
