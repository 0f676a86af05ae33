"""IEEE single precision: the format of training."""

from fractions import Fraction
from typing import ClassVar

from torch import nn

from .format import Format


class Fp32(Format):
    """Changes nothing."""

    name: ClassVar[str] = "fp32"
    real_on: ClassVar[frozenset[str]] = frozenset({"eager", "onnxruntime"})

    def bits_per_weight(self, in_features: int) -> Fraction:
        return Fraction(32)

    def convert(self, linear: nn.Linear) -> nn.Module:
        return linear
