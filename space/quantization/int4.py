"""Four-bit weights in groups; activations stay float32.

    s = (max - min) / 15      z = round(-min / s)      q = clip(round(w / s) + z, 0, 15)
    w' = (q - z) s            y = x W'^T

Over g consecutive inputs of one output, with min <= 0 <= max, so that 0 is exact; s = 1 where all are 0. The
last group is shorter where g does not divide the inputs, and is stored filled up. Source: Shen et al. 2020
(Q-BERT), arXiv:1909.05840, for groups with a scale each; Jacob et al. 2018, arXiv:1712.05877,
section 2.1 for scale and zero point.

round() takes halves up: then round(w / s) + z of the largest number is 15 above that of the smallest whatever
the group's offset, and quantizing twice changes nothing. Eager torch writes W' out and multiplies: simulated.
ONNX Runtime multiplies from the packed codes (com.microsoft MatMulNBits).
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

LARGEST = 15
SCALE_BITS = 32


class Int4(Format):
    """Groups of `group_size`; scales are stored in float32, zero points in four bits."""

    group_size: ClassVar[int]
    real_on: ClassVar[frozenset[str]] = frozenset({"onnxruntime"})

    def bits_per_weight(self, in_features: int) -> Fraction:
        groups = num_groups(in_features, self.group_size)
        zeros = 8 * num_groups(groups, 2)  # whole bytes per output
        return Fraction(groups * (4 * self.group_size + SCALE_BITS) + zeros, in_features)

    def product(
        self,
        weight: Float32[Tensor, "out_features in_features"],
        peaks: Float32[Tensor, " in_features"] | None = None,
    ) -> nn.Module:
        return Int4Linear(weight, self.group_size)


class Int4G32(Int4):
    name: ClassVar[str] = "int4_g32"
    group_size: ClassVar[int] = 32


class Int4G64(Int4):
    name: ClassVar[str] = "int4_g64"
    group_size: ClassVar[int] = 64


class Int4Linear(nn.Module):
    """Packed codes; writes the weights out in every call."""

    codes: UInt8[Tensor, "out_features bytes"]
    zeros: UInt8[Tensor, "out_features zero_bytes"]
    scale: Float32[Tensor, "out_features groups"]

    def __init__(self, weight: Float32[Tensor, "out_features in_features"], group_size: int) -> None:
        super().__init__()
        self.in_features, self.group_size = weight.shape[1], group_size
        codes, zeros, scale = quantize_groups(in_groups(weight, group_size))
        self.register_buffer("codes", pack(codes.flatten(1)))
        self.register_buffer("zeros", pack(zeros))
        self.register_buffer("scale", scale)

    def weight(self) -> Float32[Tensor, "out_features in_features"]:
        """W'."""
        groups = self.scale.shape[1]
        codes = unpack(self.codes, groups * self.group_size).view(-1, groups, self.group_size)
        values = dequantize_groups(codes, unpack(self.zeros, groups), self.scale)
        return values.flatten(1)[:, : self.in_features]

    def forward(self, x: Float[Tensor, "*axes in_features"]) -> Float[Tensor, "*axes out_features"]:
        if (run := fused("int4_linear", x, unless=many_rows(x))) is not None:
            y: Tensor = run(x, self.codes, self.zeros, self.scale, self.group_size)
            return y
        return functional.linear(x.float(), self.weight()).to(x.dtype)


def quantize_groups(
    w: Float32[Tensor, "*groups size"],
) -> tuple[UInt8[Tensor, "*groups size"], UInt8[Tensor, "*groups"], Float32[Tensor, "*groups"]]:
    """Codes, zero points and scales; `(codes - zero) * scale` differs from w by at most half a scale."""
    low, high = w.amin(-1).clamp(max=0.0), w.amax(-1).clamp(min=0.0)
    scale = (high - low) / LARGEST
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = -(low / scale + 0.5).floor()
    codes = ((w / scale[..., None] + 0.5).floor() + zero[..., None]).clamp(0, LARGEST)
    return codes.to(torch.uint8), zero.to(torch.uint8), scale


def dequantize_groups(
    codes: UInt8[Tensor, "*groups size"], zeros: UInt8[Tensor, "*groups"], scale: Float32[Tensor, "*groups"]
) -> Float32[Tensor, "*groups size"]:
    return (codes.float() - zeros[..., None].float()) * scale[..., None]


def int4_weight_reference(
    weight: Float[Tensor, "out_features in_features"], group_size: int
) -> Float[Tensor, "out_features in_features"]:
    """W' number by number in Python: each group of each row by itself."""

    def rounded(group: list[float]) -> list[float]:
        low, high = min(0.0, *group), max(0.0, *group)
        scale = (high - low) / LARGEST or 1.0
        zero = -math.floor(low / scale + 0.5)
        codes = [max(0, min(LARGEST, math.floor(number / scale + 0.5) + zero)) for number in group]
        return [(code - zero) * scale for code in codes]

    rows = [
        [v for i in range(0, len(row), group_size) for v in rounded(row[i : i + group_size])]
        for row in weight.tolist()
    ]
    return torch.tensor(rows, dtype=weight.dtype)
