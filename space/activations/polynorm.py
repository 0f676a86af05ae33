"""Trainable polynomial of degree 3 whose powers are each normalised over the channels.

    y = a_1 N(u) + a_2 N(u^2) + a_3 N(u^3) + b,    N(v) = v / sqrt(mean(v^2) + 1e-12)

a_i = 1/3 and b = 0 at the start. It is not elementwise: every output of a token depends on all of its hidden
units. Source: Zhuo et al. 2024, arXiv:2411.03884 (PolyCom).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..kernels.dispatch import fused
from ..roles import ParameterRole

EPS = 1e-12


class PolyNorm(nn.Module):
    """Scales from the second, fourth and sixth powers, then Horner's rule; in float32 at least."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.full((3,), 1 / 3))
        self.bias = nn.Parameter(torch.zeros(1))

    def parameter_roles(self) -> dict[str, ParameterRole]:
        return {"scales": ParameterRole("ffn.in"), "bias": ParameterRole("ffn.in")}

    def forward(self, u: Float[Tensor, "*axes units"]) -> Float[Tensor, "*axes units"]:
        if (run := fused("poly_norm", u, self.scales)) is not None:
            fast: Tensor = run(u, self.scales, self.bias)
            return fast
        wide = u.float() if u.dtype in (torch.float16, torch.bfloat16) else u
        square = wide * wide
        fourth = square * square
        first = self.scales[0] * _inverse_root(square)
        second = self.scales[1] * _inverse_root(fourth)
        third = self.scales[2] * _inverse_root(fourth * square)
        y: Tensor = ((third * wide + second) * wide + first) * wide + self.bias
        return y.to(u.dtype)


def _inverse_root(squares: Float[Tensor, "*axes units"]) -> Float[Tensor, "*axes one"]:
    root: Tensor = (squares.mean(dim=-1, keepdim=True) + EPS).sqrt()
    return 1.0 / root


def polynorm_reference(
    u: Float[Tensor, "*axes units"], scales: Tensor, bias: Tensor
) -> Float[Tensor, "*axes units"]:
    """The definition, power by power."""
    total = bias.expand_as(u)
    for power, scale in enumerate(scales, start=1):
        v = u**power
        total = total + scale * v / ((v * v).mean(dim=-1, keepdim=True) + EPS).sqrt()
    return total
