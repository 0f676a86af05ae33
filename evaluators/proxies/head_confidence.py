"""Head confidence: the largest values of what mixers read, over the tokens.

    S = mean over maps that read the stream (queries, keys, values, gates) of the mean over batch and channels
        of the largest output over the tokens

The published form sums over maps and owes its strength to depth; the sum stands beside it. Source: Serianni
and Kalita 2023, ACL, after Voita et al. 2019, arXiv:1905.09418.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score


class HeadConfidence(Proxy):
    id = "head_confidence"
    version = 1
    direction = "max"
    needs = frozenset({"reads"})
    summary = "largest outputs of the maps by which mixers read, over the tokens"

    def score(self, passes: Passes) -> Score:
        if not passes.reads:
            raise UnsupportedError(
                "head_confidence: no mixer reads the stream by a matrix; use other proxies"
            )
        total = math.fsum(passes.reads)
        return Score(total / len(passes.reads), {"sum": total})
