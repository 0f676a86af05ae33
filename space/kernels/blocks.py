"""Tokens cut into blocks of equal size, or laid out in rows of equal length and read along the columns.

    tokens 0 1 2 3 4 5 6, blocks of 3, one empty place in front:      |  . 0 1 | 2 3 4 | 5 6 . |

    in rows of 3:   0 1 2        columns:   0 3 6 | 1 4 . | 2 5 .
                    3 4 5
                    6 . .

Empty places are zeros; who attends marks them as absent.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from .attention import FORBIDDEN


def in_blocks(
    part: Float[Tensor, "batch heads tokens width"], block: int, front: int = 0
) -> Float[Tensor, "batch blocks heads block width"]:
    """Sizes come from the tensor, so that an exported graph keeps the number of tokens free."""
    b, heads, n, width = part.shape
    padded = functional.pad(part, (0, 0, front, (-n - front) % block))
    return padded.reshape(b, heads, -1, block, width).transpose(1, 2)


def from_blocks(
    blocks: Float[Tensor, "batch blocks heads block width"],
    like: Float[Tensor, "batch heads tokens width"],
    front: int = 0,
) -> Float[Tensor, "batch heads tokens width"]:
    """The inverse, for the tokens of `like`."""
    return blocks.transpose(1, 2).flatten(2, 3)[:, :, front : front + like.shape[2]]


def in_columns(
    part: Float[Tensor, "batch heads tokens width"], columns: int
) -> Float[Tensor, "batch columns heads rows width"]:
    """The tokens of each column, top to bottom."""
    b, heads, n, width = part.shape
    padded = functional.pad(part, (0, 0, 0, (-n) % columns))
    return padded.reshape(b, heads, -1, columns, width).permute(0, 3, 1, 2, 4)


def from_columns(
    columns: Float[Tensor, "batch columns heads rows width"],
    like: Float[Tensor, "batch heads tokens width"],
) -> Float[Tensor, "batch heads tokens width"]:
    """The inverse, for the tokens of `like`."""
    return columns.permute(0, 2, 3, 1, 4).flatten(2, 3)[:, :, : like.shape[2]]


def existing(
    like: Float[Tensor, "batch heads tokens width"], mask: Bool[Tensor, "batch tokens"] | None
) -> Float[Tensor, "batch_or_1 1 tokens 1"]:
    """1 at real tokens; cut like heads, it is 0 at empty places."""
    return torch.ones_like(like[:1, :1, :, :1]) if mask is None else mask[:, None, :, None].to(like.dtype)


def absence(
    exists: Float[Tensor, "batch_or_1 groups 1 keys 1"],
) -> Float[Tensor, "batch_or_1 groups 1 1 keys"]:
    """Added to the scores: forbids keys that do not exist."""
    return (1.0 - exists.transpose(-1, -2)) * FORBIDDEN
