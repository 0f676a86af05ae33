"""Linear maps whose weights are four-bit codes, written out tile by tile where they are multiplied.

    int4   w = (code - zero) s                of a group of consecutive inputs
    fp4    w = 2^(e - 127) grid[code]         grid 0, 1/2, 1, 3/2, 2, 3, 4, 6; bit 8 is minus

Two codes a byte, the even one in the high half: a tile multiplies the even inputs with the high halves and
the odd ones with the low halves, so that no code is moved. For few rows, where reading the weights is all
there is to do; with many it pays to write them out once. One row is summed up without a matrix product.
Source: Shen et al. 2020, arXiv:1909.05840 (groups); Open Compute Project, Microscaling Formats (MX) 1.0.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from .launch import as_rows, device_of, packed, precision

TILE_ROWS = 16
"""Rows that one program multiplies; further ones read the weights again."""
OUTPUTS, BYTES = 16, 128
GRID = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@triton.jit
@no_type_check
def _value(code, zero, scale, IS_FP4: tl.constexpr):
    """Weights of codes 0 to 15, in float32."""
    if IS_FP4:
        size = (code & 7).to(tl.float32)
        size = tl.where(size < 4, 0.5 * size, tl.where(size < 6, size - 2.0, 2.0 * size - 8.0))
        value = tl.where(code >= 8, -size, size) * scale
    else:
        value = (code.to(tl.float32) - zero.to(tl.float32)) * scale
    return value


@triton.jit
@no_type_check
def _product(
    x, codes, zeros, scales, y, rows, outputs, inputs, bytes_per_output, groups, zero_bytes, x_stride,
    IS_FP4: tl.constexpr, GROUP: tl.constexpr, IS_ONE_ROW: tl.constexpr, ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr, BYTES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    j = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    j64 = j.to(tl.int64)
    i = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros((OUTPUTS,) if IS_ONE_ROW else (ROWS, OUTPUTS), tl.float32)
    for start in range(0, bytes_per_output, BYTES):
        byte = start + tl.arange(0, BYTES)
        there = (j < outputs)[:, None] & (byte < bytes_per_output)[None, :]
        packed = tl.load(codes + j64[:, None] * bytes_per_output + byte[None, :], mask=there, other=0)
        group = 2 * byte // GROUP
        at = j64[:, None] * groups + group[None, :]
        if IS_FP4:
            exponent = tl.load(scales + at, mask=there, other=127).to(tl.int32)
            scale = (exponent << 23).to(tl.float32, bitcast=True)
            zero = packed
        else:
            scale = tl.load(scales + at, mask=there, other=0.0)
            pair = tl.load(zeros + j64[:, None] * zero_bytes + (group // 2)[None, :], mask=there, other=0)
            zero = tl.where((group % 2 == 0)[None, :], pair >> 4, pair & 15)
        high = _value(packed >> 4, zero, scale, IS_FP4)
        low = _value(packed & 15, zero, scale, IS_FP4)
        if IS_ONE_ROW:
            even = tl.load(x + 2 * byte, mask=2 * byte < inputs, other=0.0).to(tl.float32)
            odd = tl.load(x + 2 * byte + 1, mask=2 * byte + 1 < inputs, other=0.0).to(tl.float32)
            total += tl.sum(high * even[None, :] + low * odd[None, :], axis=1)
        else:
            row = x + i.to(tl.int64)[:, None] * x_stride + 2 * byte[None, :]
            inside = (i < rows)[:, None] & (2 * byte < inputs)[None, :]
            even = tl.load(row, mask=inside, other=0.0)
            inside = (i < rows)[:, None] & (2 * byte + 1 < inputs)[None, :]
            odd = tl.load(row + 1, mask=inside, other=0.0)
            total += tl.dot(even, tl.trans(high.to(even.dtype)), input_precision=PRECISION)
            total += tl.dot(odd, tl.trans(low.to(odd.dtype)), input_precision=PRECISION)
    if IS_ONE_ROW:
        tl.store(y + j, total.to(y.dtype.element_ty), mask=j < outputs)
    else:
        out = y + i.to(tl.int64)[:, None] * outputs + j[None, :]
        tl.store(out, total.to(y.dtype.element_ty), mask=(i < rows)[:, None] & (j < outputs)[None, :])


@torch.library.custom_op("paretoformer::packed_linear", mutates_args=())
def packed_linear_op(
    x: Tensor, codes: Tensor, zeros: Tensor | None, scales: Tensor, group_size: int
) -> Tensor:
    """x W^T of codes [outputs, bytes]; scales [outputs, groups], float32 with zeros, exponents without."""
    rows = as_rows(x)
    y = _result(x, codes)
    codes, zeros, scales = codes.contiguous(), packed(zeros), scales.contiguous()
    outputs = codes.shape[0]
    with device_of(x):
        _product[(triton.cdiv(outputs, OUTPUTS), triton.cdiv(rows.shape[0], TILE_ROWS))](
            rows, codes, zeros, scales, y, rows.shape[0], outputs, rows.shape[1], codes.shape[1],
            scales.shape[1], 0 if zeros is None else zeros.shape[1], rows.stride(0), IS_FP4=zeros is None,
            GROUP=group_size, IS_ONE_ROW=rows.shape[0] == 1, ROWS=TILE_ROWS, OUTPUTS=OUTPUTS, BYTES=BYTES,
            PRECISION=precision(), num_warps=4,
        )  # fmt: skip
    return y


@packed_linear_op.register_fake
def _(x: Tensor, codes: Tensor, zeros: Tensor | None, scales: Tensor, group_size: int) -> Tensor:
    return _result(x, codes)


def _result(x: Tensor, codes: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], codes.shape[0]))


def int4_linear(x: Tensor, codes: Tensor, zeros: Tensor, scale: Tensor, group_size: int) -> Tensor:
    """At most 16 rows of x times weights in groups with zero points."""
    y: Tensor = packed_linear_op(x, codes, zeros, scale, group_size)
    return y


def fp4_linear(x: Tensor, codes: Tensor, exponents: Tensor, group_size: int) -> Tensor:
    """At most 16 rows of x times weights on the grid of E2M1."""
    y: Tensor = packed_linear_op(x, codes, None, exponents, group_size)
    return y


def packed_linear_twin(
    x: Tensor, codes: Tensor, zeros: Tensor | None, scales: Tensor, group_size: int
) -> Tensor:
    """The definition in torch: the weights written out."""
    halves = torch.stack([codes >> 4, codes & 15], dim=-1).flatten(1).view(*scales.shape, group_size)
    if zeros is None:
        grid = torch.tensor([*GRID, *(-value for value in GRID)], device=x.device)
        weight = torch.ldexp(grid[halves.long()], scales[..., None].int() - 127)
    else:
        zero = torch.stack([zeros >> 4, zeros & 15], dim=-1).flatten(1)[:, : scales.shape[1], None]
        weight = (halves.float() - zero.float()) * scales[..., None]
    y = functional.linear(x.float(), weight.flatten(1)[:, : x.shape[-1]])
    return y.to(x.dtype)
