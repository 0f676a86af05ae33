"""Four-bit floating-point weights (E2M1) in groups of 32 with a power of two as scale; simulated everywhere.

    grid  0, 1/2, 1, 3/2, 2, 3, 4, 6 and their negatives
    2^e = 2^floor(log2 max|w|) / 4          w' = 2^e nearest(w / 2^e)          y = x W'^T

Between grid points the nearer is taken, in the middle the one with even mantissa; between 6 and 8, where the
largest number of a group may lie, it is 6. e is stored in 8 bits with offset 127, and is 0 where all are 0.
Source: Open Compute Project, Microscaling Formats (MX) 1.0, MXFP4; Liu et al. 2023
(LLM-FP4), arXiv:2310.16836, for E2M1 as weights. CPUs have no kernels for it: a latency is never stored.
"""

import math
from fractions import Fraction
from typing import ClassVar

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional

from ..kernels.dispatch import fused, many_rows
from .format import Format
from .packing import in_groups, num_groups, pack, unpack

GROUP_SIZE = 32
GRID = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
NEGATIVE = 8
"""Bit of a code that says minus."""
EXPONENT_OFFSET = 127
GRID_EXPONENT = 2
"""Of the largest numbers of the grid, 4 and 6."""


class Fp4G32(Format):
    """Four bits per weight and eight per group."""

    name: ClassVar[str] = "fp4_g32"
    real_on: ClassVar[frozenset[str]] = frozenset()

    def bits_per_weight(self, in_features: int) -> Fraction:
        return Fraction(num_groups(in_features, GROUP_SIZE) * (4 * GROUP_SIZE + 8), in_features)

    def product(
        self,
        weight: Float32[Tensor, "out_features in_features"],
        peaks: Float32[Tensor, " in_features"] | None = None,
    ) -> nn.Module:
        return Fp4Linear(weight)


class Fp4Linear(nn.Module):
    """Packed codes; writes the weights out in every call."""

    codes: UInt8[Tensor, "out_features bytes"]
    exponents: UInt8[Tensor, "out_features groups"]

    def __init__(self, weight: Float32[Tensor, "out_features in_features"]) -> None:
        super().__init__()
        self.in_features = weight.shape[1]
        codes, exponents = quantize_fp4(in_groups(weight, GROUP_SIZE))
        self.register_buffer("codes", pack(codes.flatten(1)))
        self.register_buffer("exponents", exponents)

    def weight(self) -> Float32[Tensor, "out_features in_features"]:
        """W'."""
        codes = unpack(self.codes, self.exponents.shape[1] * GROUP_SIZE)
        return dequantize_fp4(codes.view(*self.exponents.shape, GROUP_SIZE), self.exponents).flatten(1)[
            :, : self.in_features
        ]

    def forward(self, x: Float[Tensor, "*axes in_features"]) -> Float[Tensor, "*axes out_features"]:
        if (run := fused("fp4_linear", x, unless=many_rows(x))) is not None:
            y: Tensor = run(x, self.codes, self.exponents, GROUP_SIZE)
            return y
        return functional.linear(x.float(), self.weight()).to(x.dtype)


def quantize_fp4(
    w: Float32[Tensor, "*groups size"],
) -> tuple[UInt8[Tensor, "*groups size"], UInt8[Tensor, "*groups"]]:
    """Codes (index into the grid, plus 8 for minus) and shifted exponents."""
    peak = w.abs().amax(-1)
    exponent = torch.frexp(peak).exponent - 1 - GRID_EXPONENT  # frexp gives mantissas of 1/2 to 1
    exponent = torch.where(peak == 0, 0, exponent).clamp(-126, 127)
    scaled = torch.ldexp(w, -exponent[..., None])
    size = scaled.abs().clamp(max=GRID[-1])
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    grid = torch.tensor(GRID, device=w.device)
    index = torch.bucketize((size / step).round() * step, grid)
    codes = index + NEGATIVE * ((scaled < 0) & (index > 0))
    return codes.to(torch.uint8), (exponent + EXPONENT_OFFSET).to(torch.uint8)


def dequantize_fp4(
    codes: UInt8[Tensor, "*groups size"], exponents: UInt8[Tensor, "*groups"]
) -> Float32[Tensor, "*groups size"]:
    """Exact: the grid times powers of two."""
    signed = torch.tensor([*GRID, *(-value for value in GRID)], device=codes.device)
    return torch.ldexp(signed[codes.long()], exponents[..., None].int() - EXPONENT_OFFSET)


def fp4_weight_reference(
    weight: Float[Tensor, "out_features in_features"],
) -> Float[Tensor, "out_features in_features"]:
    """W' number by number in Python: the nearest of all fifteen numbers of the grid."""
    signed = sorted({sign * value for value in GRID for sign in (1, -1)})

    def nearest(number: float) -> float:
        # in the middle of two neighbours, the one at an even place of the grid has the even mantissa
        return min(signed, key=lambda value: (abs(value - number), GRID.index(abs(value)) % 2))

    def rounded(group: list[float]) -> list[float]:
        peak = max(map(abs, group))
        scale = 2.0 ** (math.floor(math.log2(peak)) - GRID_EXPONENT) if peak else 1.0
        return [scale * nearest(number / scale) for number in group]

    rows = [
        [v for i in range(0, len(row), GROUP_SIZE) for v in rounded(row[i : i + GROUP_SIZE])]
        for row in weight.tolist()
    ]
    return torch.tensor(rows, dtype=weight.dtype)
