"""SWAP: how many units answer differently to a few examples.

    pattern of a unit = signs of its pre-activation, mean over the tokens, for each of B <= 10 examples
    S = number of distinct patterns, summed over the feed-forwards' nonlinearities

Saturates at min(2^B, units), so few examples are used and the share of that stands beside it. Source: Peng et
al. 2024, arXiv:2403.04161, without its factor for a wanted size.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score

EXAMPLES = 10


class Swap(Proxy):
    id = "swap"
    version = 1
    direction = "max"
    needs = frozenset({"signs"})
    summary = "units that answer differently to a few examples"

    def score(self, passes: Passes) -> Score:
        if not passes.signs:
            raise UnsupportedError("swap: no feed-forward shows pre-activations token by token")
        patterns = [signs.mean[:EXAMPLES] > 0 for signs in passes.signs]
        counts = [distinct(pattern) for pattern in patterns]
        most = sum(min(2 ** len(pattern), pattern.shape[1]) for pattern in patterns)
        return Score(float(sum(counts)), {"share": sum(counts) / most})


def distinct(pattern: Bool[Tensor, "examples units"]) -> int:
    """Different columns."""
    powers = 2 ** torch.arange(len(pattern))
    return len(torch.unique((pattern.long() * powers[:, None]).sum(0)))


def distinct_reference(pattern: Bool[Tensor, "examples units"]) -> int:
    """As a set."""
    return len({tuple(column) for column in pattern.T.tolist()})
