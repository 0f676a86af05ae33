"""Four-bit codes, two in a byte: the even one in the high half.

    byte_i = 16 c_{2i} + c_{2i+1}

An odd number of codes is filled up with a zero. Groups: a row of `in` numbers is cut into pieces of g, the
last filled up with zeros.
"""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional


def pack(codes: UInt8[Tensor, "*axes codes"]) -> UInt8[Tensor, "*axes bytes"]:
    """Codes of 0..15."""
    even = functional.pad(codes, (0, codes.shape[-1] % 2))
    return (even[..., 0::2] << 4) | even[..., 1::2]


def unpack(packed: UInt8[Tensor, "*axes bytes"], codes: int) -> UInt8[Tensor, "*axes codes"]:
    """The first `codes` of every row."""
    return torch.stack([packed >> 4, packed & 15], dim=-1).flatten(-2)[..., :codes]


def in_groups(weight: Float32[Tensor, "rows columns"], size: int) -> Float32[Tensor, "rows groups size"]:
    """Pieces of `size` consecutive numbers."""
    groups = num_groups(weight.shape[1], size)
    filled = functional.pad(weight, (0, groups * size - weight.shape[1]))
    return filled.view(weight.shape[0], groups, size)


def num_groups(in_features: int, size: int) -> int:
    return -(-in_features // size)
