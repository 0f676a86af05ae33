"""Feature maps of linear attention without parameters, elementwise.

    elu    u > 0: u, else e^u - 1            silu   u / (1 + e^-u)
    elu1   elu(u) + 1                        relu2  max(u, 0)^2

Source: Clevert et al. 2015, arXiv:1511.07289 (elu); Katharopoulos et al. 2020, arXiv:2006.16236 (elu + 1).
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Phi = Literal["elu", "elu1", "silu", "relu2"]


def mapped(u: Float[Tensor, "*axes width"], phi: Phi) -> Float[Tensor, "*axes width"]:
    """phi(u)."""
    if phi == "silu":
        return functional.silu(u)
    if phi == "relu2":
        return functional.relu(u).square()
    return elu_plus_one(u) if phi == "elu1" else _elu(u)


def elu_plus_one(u: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
    """elu(u) + 1. ONNX Runtime's Elu alone takes longer than the four operators of the exported form."""
    if torch.onnx.is_in_onnx_export():
        return torch.exp(u.clamp(max=0.0)) + functional.relu(u)
    return functional.elu(u) + 1.0


def _elu(u: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
    if torch.onnx.is_in_onnx_export():
        return elu_plus_one(u) - 1.0
    return functional.elu(u)


def mapped_reference(u: Float[Tensor, "*axes width"], phi: Phi) -> Float[Tensor, "*axes width"]:
    """The definitions."""
    if phi == "silu":
        return u / (1.0 + torch.exp(-u))
    if phi == "relu2":
        return torch.where(u > 0, u, 0.0) ** 2
    elu1 = torch.where(u > 0, u + 1.0, torch.exp(u.clamp(max=0.0)))
    return elu1 if phi == "elu1" else elu1 - 1.0
