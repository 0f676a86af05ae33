"""Activation distance: in how many bits examples' patterns of active units agree, summed over pairs.

    S = sum over i, j of K_H[i, j],   K_H as in naswot

Its published sign is that of size, weakly: every bit adds B^2 / 2 or more. Source: Serianni and Kalita 2023,
ACL, after Mellor et al. 2021, arXiv:2006.04647; pairs of examples, not of positions.
"""

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score
from ..sign_codes import agreement


class ActivationDistance(Proxy):
    id = "activation_distance"
    version = 1
    direction = "max"
    needs = frozenset({"signs"})
    summary = "bits in which examples' patterns of active units agree"

    def score(self, passes: Passes) -> Score:
        """The share of agreeing bits stands beside it as `agreement`."""
        if not passes.signs:
            raise UnsupportedError(
                "activation_distance: no feed-forward shows pre-activations token by token"
            )
        total = float(agreement(signs.positive for signs in passes.signs).sum())
        bits = sum(signs.positive.shape[1] for signs in passes.signs)
        examples = len(passes.signs[0].positive)
        return Score(total, {"agreement": total / (bits * examples**2)})
