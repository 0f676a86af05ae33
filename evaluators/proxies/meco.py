"""MeCo: how far channels are from saying the same.

    S = sum over blocks of the smallest eigenvalue of the correlation matrix of min(64, d) of its channels

over all tokens of all examples, a quarter as many channels as there are tokens at most: with fewer positions
than channels, as published, the smallest eigenvalue is exactly 0. Source: Jiang et al. 2023 (MeCo, NeurIPS),
as its code computes it for feature maps.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from space.errors import UnsupportedError

from ..passes import Passes
from ..proxy import Proxy, Score
from ..spectra import correlation, eigenvalues

CHANNELS = 64
POSITIONS_PER_CHANNEL = 4


class Meco(Proxy):
    id = "meco"
    version = 1
    direction = "max"
    needs = frozenset({"features"})
    summary = "smallest eigenvalue of the correlation of channels, summed over blocks"

    def score(self, passes: Passes) -> Score:
        if not passes.features:
            raise UnsupportedError("meco: the network shows no blocks")
        values = [
            smallest_eigenvalue(sampled(block.flatten(0, 1).T, seed=place))
            for place, block in enumerate(passes.features)
        ]
        return Score(math.fsum(values), {"mean_per_block": math.fsum(values) / len(values)})


def sampled(
    channels: Float[Tensor, "channels positions"], *, seed: int
) -> Float[Tensor, "sampled positions"]:
    """The same channels for equal sizes and seeds."""
    count = min(CHANNELS, len(channels), max(1, channels.shape[1] // POSITIONS_PER_CHANNEL))
    if count == len(channels):
        return channels
    generator = torch.Generator().manual_seed(seed)
    chosen: Tensor = torch.randperm(len(channels), generator=generator)[:count].sort().values
    return channels[chosen]


def smallest_eigenvalue(channels: Float[Tensor, "channels positions"]) -> float:
    """Of the channels' correlation matrix; NaN where a number is not finite."""
    values = eigenvalues(correlation(channels))
    return math.nan if values is None else float(values[0])
