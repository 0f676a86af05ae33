"""Eight-bit weights and activations, scales of activations found at run time (W8A8).

    q = clip(round(x / s), -127, 127),   s = max|x| / 127, and 1 where max|x| = 0
    y = (x_q w_q) * (s_x s_w)

One scale per output channel of the weight and per row (token) of the input; sums of products are exact in
int32. Source: Dettmers et al. 2022, arXiv:2208.07339, section 2 (vector-wise quantization). Rounds half to
even. The exported form has the same integers as weights, but ONNX Runtime's dynamic quantization takes
unsigned activations with one scale per tensor: the same class of accuracy, other bits.
"""

from fractions import Fraction
from typing import ClassVar

import torch
from jaxtyping import Float, Float32, Int8, Int32
from torch import Tensor, nn
from torch.nn import functional

from ..kernels.dispatch import fused
from .format import Format

LEVELS = 127


class Int8Dynamic(Format):
    """Scales are stored in float32."""

    name: ClassVar[str] = "int8_dynamic"
    real_on: ClassVar[frozenset[str]] = frozenset({"cudagraph", "eager", "onnxruntime", "torch-compile"})

    def bits_per_weight(self, in_features: int) -> Fraction:
        return 8 + Fraction(32, in_features)

    def product(
        self,
        weight: Float32[Tensor, "out_features in_features"],
        peaks: Float32[Tensor, " in_features"] | None = None,
    ) -> nn.Module:
        return Int8Linear(*quantize_rows(weight))


class Int8Linear(nn.Module):
    """Integer product of quantized rows; float32 in, float32 out."""

    weight: Int8[Tensor, "out_features in_features"]
    scale: Float32[Tensor, "out_features 1"]

    def __init__(
        self, weight: Int8[Tensor, "out_features in_features"], scale: Float32[Tensor, "out_features 1"]
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, x: Float[Tensor, "*axes in_features"]) -> Float[Tensor, "*axes out_features"]:
        if (run := fused("int8_linear", x)) is not None:
            fast: Tensor = run(x, self.weight, self.scale)
            return fast
        y = int8_product(x.reshape(-1, x.shape[-1]).float(), self.weight, self.scale)
        return y.reshape(*x.shape[:-1], self.weight.shape[0]).to(x.dtype)


def int8_product(
    x: Float32[Tensor, "rows in_features"],
    weight: Int8[Tensor, "out_features in_features"],
    scale: Float32[Tensor, "out_features 1"],
) -> Float32[Tensor, "rows out_features"]:
    """Rows quantized, multiplied as integers, scaled back."""
    rows, row_scale = quantize_rows(x)
    exact = _filled_product(rows, weight) if rows.is_cuda else torch._int_mm(rows, weight.T)
    return exact.float() * (row_scale * scale.T)


def _filled_product(
    rows: Int8[Tensor, "rows in_features"], weight: Int8[Tensor, "out_features in_features"]
) -> Int32[Tensor, "rows out_features"]:
    """The same with zeros around it: cuBLAS takes more than 16 rows, and multiples of 8 of the others."""
    more, inputs, outputs = max(0, 17 - len(rows)), -rows.shape[1] % 8, -len(weight) % 8
    rows = functional.pad(rows, (0, inputs, 0, more))
    weight = functional.pad(weight, (0, inputs, 0, outputs))
    return torch._int_mm(rows, weight.T)[: len(rows) - more, : len(weight) - outputs]


def quantize_rows(
    x: Float32[Tensor, "rows columns"],
) -> tuple[Int8[Tensor, "rows columns"], Float32[Tensor, "rows 1"]]:
    """Integers and the scale of each row; `integers * scale` differs from x by at most half a scale."""
    scale = x.abs().amax(dim=1, keepdim=True) / LEVELS
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (x / scale).round().clamp(-LEVELS, LEVELS).to(torch.int8), scale


def int8_linear_reference(
    x: Float[Tensor, "rows in_features"], weight: Float[Tensor, "out_features in_features"]
) -> Float[Tensor, "rows out_features"]:
    """The definition, number by number in Python: quantize both, multiply integers, scale back."""

    def quantized(row: list[float]) -> tuple[list[int], float]:
        scale = max(map(abs, row)) / LEVELS or 1.0
        return [max(-LEVELS, min(LEVELS, round(number / scale))) for number in row], scale

    columns = [quantized(row) for row in weight.tolist()]
    rows = [quantized(row) for row in x.tolist()]
    products = [
        [sum(a * b for a, b in zip(left, right, strict=True)) * (s * t) for right, t in columns]
        for left, s in rows
    ]
    return torch.tensor(products, dtype=x.dtype)
