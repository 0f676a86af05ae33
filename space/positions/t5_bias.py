"""Learned biases of attention scores by distance, in buckets that widen with it.

    score_ij <- score_ij + b_a[bucket(j - i)],   b [32, H]

    causal       m = max(i - j, 0):   m < 16: m,   else 16 + floor(16 ln(m / 16) / ln(128 / 16)), at most 31
    both ways    m = |i - j|:         m <  8: m,   else  8 + floor( 8 ln(m /  8) / ln(128 /  8)), at most 15,
                 and 16 more where j > i

Source: Raffel et al. 2019, arXiv:1910.10683, section 2.1. The start b ~ N(0, 0.02^2), cut at two deviations,
is ours. One table for all layers with the same number of heads. Acts inside the mixers that read it.
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ..choice import MixerChoice, Surroundings
from ..projection import start
from ..roles import ParameterRole
from .additive_bias import AdditivePosition, RelativeBias

BUCKETS = 32
FARTHEST = 128
"""From this distance on every pair is in the last bucket of its side."""


class T5BiasConfig(AdditivePosition):
    """Knows left from right in both model kinds."""

    reads_mixers: ClassVar[bool] = True

    direction_aware: ClassVar[bool] = True

    kind: Literal["t5_bias"] = "t5_bias"

    def relative_bias(self, at: Surroundings, num_heads: int) -> "T5Bias":
        name = f"t5_bias of {num_heads} heads"
        if name not in at.shared:
            at.shared[name] = T5Bias(num_heads, causal=at.causal)
        shared = at.shared[name]
        assert isinstance(shared, T5Bias)
        return shared

    def params(self, at: Surroundings, mixers: tuple[MixerChoice, ...]) -> int:
        """One table for every number of heads among the mixers that read it."""
        readers = (mixer for mixer in mixers if self.kind in mixer.positions)
        return BUCKETS * sum({getattr(mixer, "num_heads", 1) for mixer in readers})


class T5Bias(RelativeBias):
    """The table, and the bucket of every distance up to the farthest."""

    is_constant = False
    buckets: Tensor

    def __init__(self, num_heads: int, *, causal: bool) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(BUCKETS, num_heads))
        start(self.table)
        every = range(-FARTHEST, FARTHEST + 1)
        known = torch.tensor([bucket(-behind, causal=causal) for behind in every])
        self.register_buffer("buckets", known, persistent=False)

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"table": ParameterRole("pos")}

    def forward(self, behind: Int[Tensor, "..."]) -> Float[Tensor, "heads ..."]:
        where = self.buckets[behind.clamp(-FARTHEST, FARTHEST) + FARTHEST]
        axes = where.dim()
        return functional.embedding(where, self.table).permute(axes, *range(axes))


def bucket(relative: int, *, causal: bool) -> int:
    """Bucket of a key that stands `relative` positions after its query.

    In whole numbers, because a logarithm of floats may fall on the wrong side of a border:
    floor(k ln(m / e) / ln(F / e)) >= s is the same as m^k >= e^(k - s) F^s.

    >>> [bucket(-m, causal=True) for m in (0, 15, 16, 31, 127, 500)]
    [0, 15, 16, 21, 31, 31]
    """
    side = BUCKETS if causal else BUCKETS // 2
    m = max(-relative, 0) if causal else abs(relative)
    exact = side // 2
    first = side if not causal and relative > 0 else 0
    if m < exact:
        return first + m
    coarse = side - exact
    steps = range(1, coarse)
    passed = [s for s in steps if m**coarse >= exact ** (coarse - s) * FARTHEST**s]
    return first + exact + len(passed)
