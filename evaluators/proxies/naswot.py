"""NASWOT: whether examples switch on different units.

    c_b in {0, 1}^N, 1 where a pre-activation of example b is above 0        (all feed-forwards, all tokens)
    K_H = sum over layers of c c^T + (1 - c)(1 - c)^T        S = log |det K_H|

Gated feed-forwards by the pre-activation of their gate, smooth activations by its sign. Experts see tokens
out of order and are left out. Grows with the bits N: S / log N stands beside it. Source: Mellor et al. 2021,
arXiv:2006.04647.
"""

import math

import torch

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score
from ..sign_codes import agreement


class Naswot(Proxy):
    id = "naswot"
    version = 1
    direction = "max"
    needs = frozenset({"signs"})
    summary = "how different the examples' patterns of active units are"

    def score(self, passes: Passes) -> Score:
        """NaN where two examples have the same pattern."""
        if not passes.signs:
            raise UnsupportedError("naswot: no feed-forward shows pre-activations token by token")
        bits = sum(signs.positive.shape[1] for signs in passes.signs)
        sign, logarithm = torch.linalg.slogdet(agreement(signs.positive for signs in passes.signs))
        if float(sign) <= 0.0 or not math.isfinite(float(logarithm)):
            return Score(math.nan)
        return Score(float(logarithm), {"per_log_bit": float(logarithm) / math.log(bits)})
