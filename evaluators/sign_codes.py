"""Binary codes of examples, and in how many bits pairs of them agree.

K[i, j] = sum over layers of c_i . c_j + (1 - c_i) . (1 - c_j) = (N + s_i . s_j) / 2,   s = 2 c - 1
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BLOCK = 2**18
"""Bits at once: a sum of them is exact in float32."""


def agreement(codes: Iterable[Bool[Tensor, "examples _"]]) -> Float[Tensor, "examples examples"]:
    """K in float64, exact."""
    total: Tensor | None = None
    for layer in codes:
        for part in torch.split(layer, BLOCK, dim=1):
            signs = part.to(torch.float32) * 2.0 - 1.0
            own = (part.shape[1] + (signs @ signs.T).double()) / 2
            total = own if total is None else total + own
    return torch.zeros(0, 0, dtype=torch.float64) if total is None else total


def agreement_reference(codes: Iterable[Bool[Tensor, "examples _"]]) -> list[list[int]]:
    """Bit by bit."""
    rows: list[list[bool]] = []
    for layer in codes:
        rows = [[*a, *b] for a, b in zip(rows or [[] for _ in layer], layer.tolist(), strict=True)]
    return [[sum(x == y for x, y in zip(a, b, strict=True)) for b in rows] for a in rows]
