"""Eight-bit linear maps: rows quantized in one pass, integers multiplied exactly, scaled on the way out.

    q = round(x / s), s = max|x| / 127 of every row          y = (q w^T) s_x s_w
    with outliers: columns that are flagged take no part in q and s, and are multiplied as they are

    y += X_O (s_w w_O)^T

Which columns are outliers is a tensor of flags, so that nothing waits for the device: a tile without flags is
integers only. Rounds half to even, as the plain form: adding 1.5 * 2^23 leaves no fraction in float32.
Source: Dettmers et al. 2022, arXiv:2208.07339.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import as_rows, device_of, packed, precision, warps_of

LEVELS = 127
MAGIC = 12582912.0
THRESHOLD = 6.0
WIDEST = 32768
"""Inputs of a row that one program holds."""


@triton.jit
@no_type_check
def _quantize(
    x, flags, q, scale, width, stride, HAS_FLAGS: tl.constexpr, LEVELS: tl.constexpr, MAGIC: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    value = tl.load(x + row * stride + column, mask=column < width, other=0.0).to(tl.float32)
    if HAS_FLAGS:
        value = tl.where(tl.load(flags + column, mask=column < width, other=0) != 0, 0.0, value)
    s = tl.div_rn(tl.max(tl.abs(value), axis=0), LEVELS * 1.0)
    s = tl.where(s == 0.0, 1.0, s)
    code = tl.div_rn(value, tl.full((COLUMNS,), 0.0, tl.float32) + s) + MAGIC - MAGIC
    code = tl.minimum(tl.maximum(code, -LEVELS * 1.0), LEVELS * 1.0)
    tl.store(q + row * width + column, code.to(tl.int8), mask=column < width)
    tl.store(scale + row, s)


@triton.jit
@no_type_check
def _product(
    q, w, x, flags, row_scale, scale, y, rows, outputs, inputs, x_stride, HAS_FLAGS: tl.constexpr,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr, GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    # neighbouring programs share rows of w while these are in the cache
    across, down = tl.cdiv(outputs, OUTPUTS), tl.cdiv(rows, ROWS)
    flat = tl.program_id(0)
    first = flat // (GROUP * across) * GROUP
    height = tl.minimum(down - first, GROUP)
    i = (first + flat % (GROUP * across) % height) * ROWS + tl.arange(0, ROWS)
    j = flat % (GROUP * across) // height * OUTPUTS + tl.arange(0, OUTPUTS)
    total = tl.zeros((ROWS, OUTPUTS), tl.int32)
    exact = tl.zeros((ROWS, OUTPUTS), tl.float32)
    i64, j64 = i.to(tl.int64), j.to(tl.int64)
    for start in range(0, inputs, INPUTS):
        c = start + tl.arange(0, INPUTS)
        inside = (i < rows)[:, None] & (c < inputs)[None, :]
        left = tl.load(q + i64[:, None] * inputs + c[None, :], mask=inside, other=0)
        known = (c < inputs)[:, None] & (j < outputs)[None, :]
        right = tl.load(w + j64[None, :] * inputs + c[:, None], mask=known, other=0)
        total += tl.dot(left, right, out_dtype=tl.int32)
        if HAS_FLAGS:
            flagged = tl.load(flags + c, mask=c < inputs, other=0) != 0
            if tl.sum(flagged.to(tl.int32), axis=0) > 0:
                kept = tl.load(
                    x + i64[:, None] * x_stride + c[None, :], mask=inside & flagged[None, :], other=0.0
                )
                exact += tl.dot(kept, right.to(kept.dtype), input_precision=PRECISION)
    by_output = tl.load(scale + j, mask=j < outputs, other=0.0)[None, :]
    by_row = tl.load(row_scale + i, mask=i < rows, other=0.0)[:, None]
    result = total.to(tl.float32) * (by_row * by_output)
    if HAS_FLAGS:
        result += exact * by_output
    at = y + i64[:, None] * outputs + j[None, :]
    tl.store(at, result.to(y.dtype.element_ty), mask=(i < rows)[:, None] & (j < outputs)[None, :])


@torch.library.custom_op("paretoformer::int8_linear", mutates_args=())
def int8_linear_op(x: Tensor, weight: Tensor, scale: Tensor, flags: Tensor | None) -> Tensor:
    """x W^T of weights [outputs, inputs] int8 with a scale per output; `flags` [inputs] int8."""
    rows = as_rows(x)
    count, inputs = rows.shape
    outputs = weight.shape[0]
    q = torch.empty((count, inputs), dtype=torch.int8, device=x.device)
    row_scale = torch.empty(count, dtype=torch.float32, device=x.device)
    y = _result(x, weight)
    weight, scale, flags = weight.contiguous(), scale.contiguous(), packed(flags)
    columns = max(16, triton.next_power_of_2(inputs))
    height, width, depth, warps = _tile(count)
    with device_of(x):
        _quantize[(count,)](
            rows, flags, q, row_scale, inputs, rows.stride(0), HAS_FLAGS=flags is not None, LEVELS=LEVELS,
            MAGIC=MAGIC, COLUMNS=columns, num_warps=warps_of(columns),
        )  # fmt: skip
        _product[(triton.cdiv(outputs, width) * triton.cdiv(count, height),)](
            q, weight, rows, flags, row_scale, scale, y, count, outputs, inputs, rows.stride(0),
            HAS_FLAGS=flags is not None, ROWS=height, OUTPUTS=width, INPUTS=depth, GROUP=8,
            PRECISION=precision(), num_warps=warps,
        )  # fmt: skip
    return y


@int8_linear_op.register_fake
def _(x: Tensor, weight: Tensor, scale: Tensor, flags: Tensor | None) -> Tensor:
    return _result(x, weight)


def _result(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _tile(rows: int) -> tuple[int, int, int, int]:
    """Rows, outputs and inputs of a tile of the product, and its warps: few rows read the weights once."""
    if rows <= 16:
        return 16, 64, 128, 4
    if rows <= 64:
        return 64, 64, 128, 4
    return 128, 128, 64, 8


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """Rows of x quantized, multiplied as integers, scaled back."""
    y: Tensor = int8_linear_op(x, weight, scale.reshape(-1), None)
    return y


def int8_mixed_linear(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """The same, but for the inputs with any |x| >= 6, which stay as they are."""
    flags = (x.reshape(-1, x.shape[-1]).abs() >= THRESHOLD).any(dim=0).to(torch.int8)
    y: Tensor = int8_linear_op(x, weight, scale.reshape(-1), flags)
    return y


def int8_linear_twin(x: Tensor, weight: Tensor, scale: Tensor, flags: Tensor | None = None) -> Tensor:
    """The definition in torch."""
    rows = x.reshape(-1, x.shape[-1]).float()
    kept = torch.zeros_like(rows) if flags is None else rows * (flags != 0)
    inside = rows - kept
    s = inside.abs().amax(dim=1, keepdim=True) / LEVELS
    s = torch.where(s == 0, torch.ones_like(s), s)
    codes = (inside / s).round().clamp(-LEVELS, LEVELS)
    exact = codes.double() @ weight.double().T
    y = exact.float() * (s * scale.reshape(1, -1)) + kept @ (weight * scale.reshape(-1, 1)).T
    return y.reshape(*x.shape[:-1], -1).to(x.dtype)
