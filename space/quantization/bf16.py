"""Brain floating point: the exponent of float32 with 8 bits of precision.

    y = float32( bf16(x) bf16(W)^T )

Source: Kalamkar et al. 2019, arXiv:1905.12322. ONNX Runtime has no such product on CPU.
"""

from fractions import Fraction
from typing import ClassVar

import torch
from jaxtyping import BFloat16, Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from .format import Format


class Bf16(Format):
    """Weights and inputs of the product rounded to bf16."""

    name: ClassVar[str] = "bf16"
    real_on: ClassVar[frozenset[str]] = frozenset({"cudagraph", "eager", "torch-compile"})

    def bits_per_weight(self, in_features: int) -> Fraction:
        return Fraction(16)

    def product(
        self,
        weight: Float32[Tensor, "out_features in_features"],
        peaks: Float32[Tensor, " in_features"] | None = None,
    ) -> nn.Module:
        return Bf16Linear(weight.to(torch.bfloat16))


class Bf16Linear(nn.Module):
    """Float32 in, float32 out."""

    weight: BFloat16[Tensor, "out_features in_features"]

    def __init__(self, weight: BFloat16[Tensor, "out_features in_features"]) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, x: Float[Tensor, "*axes in_features"]) -> Float[Tensor, "*axes out_features"]:
        return functional.linear(x.to(torch.bfloat16), self.weight).to(x.dtype)
