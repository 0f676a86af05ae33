"""Attention importance: how much the loss changes when single weights of the mixers are taken away.

    S = mean over matrices W by which mixers read and write of sum |W * dL/dW|        (their sum beside it)

Source: Serianni and Kalita 2023, ACL, after Michel et al. 2019, arXiv:1905.10650.
"""

import math

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score


class AttentionImportance(Proxy):
    id = "attention_importance"
    version = 1
    direction = "max"
    needs = frozenset({"gradients"})
    summary = "weights of the mixers times their gradients, in size, per matrix"

    def score(self, passes: Passes) -> Score:
        terms = [
            float((m.value * m.gradient).abs().sum())
            for m in passes.matrices
            if m.role in ("mixer.in", "mixer.out") and m.gradient is not None
        ]
        if not terms:
            raise UnsupportedError("attention_importance: no mixer of the architecture has a weight matrix")
        total = math.fsum(terms)
        return Score(total / len(terms), {"sum": total})
