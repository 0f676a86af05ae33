"""Synaptic saliency: how much the loss changes when single weights of the feed-forwards are taken away.

    S = sum over matrices W of the feed-forwards of sum |W * dL/dW|

Source: Zhou et al. 2022, arXiv:2203.12217 (the feed-forward half of their DSS), with the mean loss.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score


class SynapticSaliency(Proxy):
    id = "synaptic_saliency"
    version = 1
    direction = "max"
    needs = frozenset({"gradients"})
    summary = "weights of the feed-forwards times their gradients, in size"

    def score(self, passes: Passes) -> Score:
        terms = [
            float((m.value * m.gradient).abs().sum())
            for m in passes.matrices
            if m.role.startswith("ffn.") and m.gradient is not None
        ]
        if not terms:
            raise UnsupportedError(
                "synaptic_saliency: the architecture has no feed-forward; use other proxies"
            )
        return Score(math.fsum(terms), {"matrices": float(len(terms))})
