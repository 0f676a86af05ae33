"""What every number format says of itself."""

from fractions import Fraction
from typing import ClassVar

from torch import nn


class Format:
    """A number format of a layer's linear maps; everything else of a model stays float32."""

    name: ClassVar[str]
    real_on: ClassVar[frozenset[str]]
    """Runtimes whose CPU kernels really compute in this format: elsewhere a latency would mean nothing."""

    def bits_per_weight(self, in_features: int) -> Fraction:
        """Stored bits, scales included, per weight of a map with so many inputs."""
        raise NotImplementedError

    def convert(self, linear: nn.Linear) -> nn.Module:
        """The same map in this format, from float32 weights; the argument is left as it is."""
        raise NotImplementedError
