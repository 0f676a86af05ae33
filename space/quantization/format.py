"""What every number format says of itself."""

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import ClassVar, Literal

from jaxtyping import Float, Float32
from torch import Tensor, nn

Execution = Literal["real", "simulated"]
"""real: integer, packed or narrow kernels compute, so a latency means something. simulated: rounded numbers
in float32 kernels, so only quality and size do."""


class Format(ABC):
    """A number format of a layer's linear maps; everything else of a model stays float32."""

    name: ClassVar[str]
    real_on: ClassVar[frozenset[str]]
    """Runtimes whose kernels really compute in this format: elsewhere a latency would mean nothing."""

    needs_calibration: ClassVar[bool] = False
    """Whether it fixes something from a batch of inputs; without one it is another format's twin."""

    def execution(self, runtime: str) -> Execution:
        """How a runtime computes it: the one place to ask."""
        return "real" if runtime in self.real_on else "simulated"

    @abstractmethod
    def bits_per_weight(self, in_features: int) -> Fraction:
        """Stored bits, scales included, per weight of a map with so many inputs."""

    @abstractmethod
    def product(
        self,
        weight: Float32[Tensor, "out_features in_features"],
        peaks: Float32[Tensor, " in_features"] | None = None,
    ) -> nn.Module:
        """x -> x W^T in this format. `peaks`: the largest |x| of each input in a calibration."""

    def convert(self, linear: nn.Linear, peaks: Float32[Tensor, " in_features"] | None = None) -> nn.Module:
        """The same map in this format, from float32 weights; the argument is left as it is."""
        product = self.product(linear.weight.detach().float(), peaks)
        return product if linear.bias is None else Biased(product, linear.bias.detach().float())


class Biased(nn.Module):
    """A product and its bias, which stays float32."""

    bias: Float32[Tensor, " out_features"]

    def __init__(self, product: nn.Module, bias: Float32[Tensor, " out_features"]) -> None:
        super().__init__()
        self.product = product
        self.register_buffer("bias", bias)

    def forward(self, x: Float[Tensor, "*axes in_features"]) -> Float[Tensor, "*axes out_features"]:
        y: Tensor = self.product(x) + self.bias
        return y
