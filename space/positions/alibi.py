"""Linear distance penalties on attention scores, one slope per head.

    score_ij <- score_ij - m_a |i - j|,   m_a = 2^(-8 (a + 1) / H),  a = 0 .. H - 1,  H a power of two

For other H: the slopes of the next lower power of two P, then every second slope of the sequence for 2 P.
Source: Press et al. 2021, arXiv:2108.12409. Acts inside the mixers that read it.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..choice import Surroundings
from .additive_bias import AdditivePosition, DistancePenalty


class AlibiConfig(AdditivePosition):
    """Needs at least 4 heads: one head's slope of 1/256 is no position signal."""

    kind: Literal["alibi"] = "alibi"

    def relative_bias(self, at: Surroundings, num_heads: int) -> DistancePenalty:
        return DistancePenalty(alibi_slopes(num_heads))


def alibi_slopes(num_heads: int) -> Float[Tensor, " heads"]:
    """Slope of each head, float64.

    >>> alibi_slopes(8)[[0, 7]].tolist()
    [0.5, 0.00390625]
    """
    lower = 2 ** int(math.log2(num_heads))
    slopes = [2.0 ** (-8.0 * (a + 1) / lower) for a in range(lower)]
    finer = [2.0 ** (-8.0 * (a + 1) / (2 * lower)) for a in range(0, 2 * lower, 2)]
    return torch.tensor((slopes + finer)[:num_heads], dtype=torch.float64)
