"""IEEE single precision: the format of training."""

from fractions import Fraction
from typing import ClassVar

from jaxtyping import Float32
from torch import Tensor, nn

from .format import Format


class Fp32(Format):
    """Changes nothing."""

    name: ClassVar[str] = "fp32"
    real_on: ClassVar[frozenset[str]] = frozenset({"cudagraph", "eager", "onnxruntime", "torch-compile"})

    def bits_per_weight(self, in_features: int) -> Fraction:
        return Fraction(32)

    def product(
        self,
        weight: Float32[Tensor, "out_features in_features"],
        peaks: Float32[Tensor, " in_features"] | None = None,
    ) -> nn.Module:
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        linear.weight = nn.Parameter(weight, requires_grad=False)
        return linear

    def convert(self, linear: nn.Linear, peaks: Float32[Tensor, " in_features"] | None = None) -> nn.Module:
        return linear
