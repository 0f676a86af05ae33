"""How kernels are launched: rows of a tensor, sizes of tiles, programs of a device, precision of products."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

# whether products and sums are fused is said here: unset, Triton 3.9 warns that its default will change
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import triton
from torch import Tensor

TILE = 4096
"""Numbers of a tile of rows: 16 for each of 256 threads."""

FEW_PROGRAMS = 4
"""Where there is no device to ask: more only take the interpreter longer."""


def device_of(x: Tensor) -> AbstractContextManager[object]:
    """Inside, kernels are launched where x is."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def as_rows(x: Tensor) -> Tensor:
    """[rows, width] whose last axis is dense; a copy only where it is not."""
    rows = x.reshape(-1, x.shape[-1])
    return dense(rows)


def tile_of(width: int) -> tuple[int, int, int]:
    """Rows and columns of a tile that holds whole rows, and its warps."""
    columns = max(16, triton.next_power_of_2(width))
    rows = max(1, TILE // columns)
    return rows, columns, warps_of(rows * columns)


def warps_of(numbers: int) -> int:
    """At least 16 numbers for each thread of a warp."""
    return min(16, max(1, numbers // 512))


def dense(part: Tensor) -> Tensor:
    """Channels side by side, as kernels read them; the other axes lie as they like."""
    return part if part.stride(-1) == 1 else part.contiguous()


def packed(part: Tensor | None) -> Tensor | None:
    """What kernels read number by number: gains, scales, biases."""
    return None if part is None else part.contiguous()


def tokens_first(like: Tensor, width: int | torch.SymInt) -> Tensor:
    """New [batch, heads, tokens, width] that lies in memory as projections do."""
    b, heads, n, _ = like.shape
    return like.new_empty((b, n, heads, width)).transpose(1, 2)


def strides_of(*parts: Tensor) -> list[int]:
    """Of batch, heads and tokens of each."""
    return [stride for part in parts for stride in part.stride()[:3]]


def tokens_of_tile(x: Tensor) -> int:
    """Tokens of a tile of heads: as many as fit an H100's shared memory with all that stands beside them."""
    return 32 if channels_of_tile(x) * x.element_size() > 256 else 64


def channels_of_tile(x: Tensor) -> int:
    """Width of a head as products take it."""
    return max(16, int(triton.next_power_of_2(x.shape[-1])))


def processors(x: Tensor) -> int:
    """What runs side by side on the device of x."""
    if x.is_cuda:
        return int(torch.cuda.get_device_properties(x.device).multi_processor_count)
    return FEW_PROGRAMS


def precision() -> str:
    """Of float32 products, as torch's own matrix products are set; "highest" by three TF32 products.

    Products in float32 itself ("ieee") leave the tensor cores idle, and Triton takes minutes to compile them.
    """
    return "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32"
