"""Decay: each head forgets distant keys at its own rate, as retention does, before the softmax.

    score_ij <- score_ij + ln(gamma_a) |i - j|,   gamma_a = 1 - 2^(-s - e a / H),  a = 0 .. H - 1

Source: Fan et al. 2023, arXiv:2309.11523 (RMT), here over the token order; s = 2 and e = 4 are those of the
first stage of its released models. The same as `alibi` with the slopes -ln(gamma_a). Acts inside the mixers
that read it.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..choice import Surroundings, off
from .additive_bias import AdditivePosition, DistancePenalty


class DecayConfig(AdditivePosition):
    """Rates from gamma = 1 - 2^-s of the first head towards 1 - 2^-(s + e)."""

    kind: Literal["decay"] = "decay"
    initial: float = off(2.0, gt=0, le=16, description="s: gamma of the first head is 1 - 2^-s.")
    heads_range: float = off(4.0, ge=0, le=16, description="e: how far the exponents of the heads spread.")

    def relative_bias(self, at: Surroundings, num_heads: int) -> DistancePenalty:
        return DistancePenalty(-torch.log(decay_rates(num_heads, self.initial, self.heads_range)))


def decay_rates(num_heads: int, initial: float, heads_range: float) -> Float[Tensor, " heads"]:
    """gamma of each head, float64.

    >>> decay_rates(2, 2.0, 4.0).tolist()
    [0.75, 0.9375]
    """
    head = torch.arange(num_heads, dtype=torch.float64)
    return 1.0 - 2.0 ** (-initial - heads_range * head / num_heads)
