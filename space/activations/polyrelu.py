"""Trainable polynomial of the rectifier, of degree 3.

    y = a_1 r + a_2 r^2 + a_3 r^3 + b,    r = max(u, 0);    a_i = 1/3 and b = 0 at the start

Source: Zhuo et al. 2024, arXiv:2411.03884 (PolyCom).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ..kernels.dispatch import fused
from ..roles import ParameterRole


class PolyRelu(nn.Module):
    """Elementwise, by Horner's rule; in float32 for 16-bit inputs. What float16 cannot hold is clamped."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.full((3,), 1 / 3))
        self.bias = nn.Parameter(torch.zeros(1))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"scales": ParameterRole("ffn.in"), "bias": ParameterRole("ffn.in")}

    def forward(self, u: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        if (run := fused("poly_relu", u, self.scales)) is not None:
            fast: Tensor = run(u, self.scales, self.bias)
            return fast
        r = functional.relu(u)
        r = r.float() if u.dtype in (torch.float16, torch.bfloat16) else r
        first, second, third = self.scales
        y: Tensor = ((third * r + second) * r + first) * r + self.bias
        if u.dtype == torch.float16:
            limit = torch.finfo(u.dtype).max
            y = y.clamp(-limit, limit)
        return y.to(u.dtype)


def polyrelu_reference(u: Float[Tensor, "*axes"], scales: Tensor, bias: Tensor) -> Float[Tensor, "*axes"]:
    """The definition, power by power."""
    r = torch.maximum(u, torch.zeros_like(u))
    return scales[2] * r**3 + scales[1] * r**2 + scales[0] * r + bias
