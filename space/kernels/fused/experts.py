"""Linear maps of experts over rows that are sorted by expert: one launch for all of them.

    y_r = x_r W_e^T for the rows r of expert e      dx_r = dy_r W_e    dW_e = sum over its rows of dy_r x_r^T

How many rows an expert has stays on the device: a program finds its expert by walking over the counts, and
there are enough programs for any distribution. Source: Gale et al. 2022, arXiv:2211.15841 (MegaBlocks), for
mixtures without padding or dropping; the form with sorted rows and tiles is the usual grouped product.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import device_of, packed, precision

ROWS, OUTPUTS, INPUTS = 64, 64, 32


@triton.jit
@no_type_check
def _expert_of(tile, ends, experts, ROWS: tl.constexpr):
    """Expert, first row and end of its rows for the tile-th tile; an expert past the last where none is left.

    A tile never holds rows of two experts.
    """
    begin = 0
    found, first, last = experts, 0, 0
    for e in range(0, experts):
        end = tl.load(ends + e).to(tl.int32)
        tiles = (end - begin + ROWS - 1) // ROWS
        is_here = (tile >= 0) & (tile < tiles)
        found = tl.where(is_here, e, found)
        first = tl.where(is_here, begin + tile * ROWS, first)
        last = tl.where(is_here, end, last)
        tile -= tiles
        begin = end
    return found, first, last


@triton.jit
@no_type_check
def _product(
    x, w, ends, y, experts, outputs, inputs, x_stride, w_expert, w_output, w_input,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(outputs, OUTPUTS)
    e, first, last = _expert_of(tl.program_id(0) // across, ends, experts, ROWS)
    if e < experts:
        i = (first + tl.arange(0, ROWS)).to(tl.int64)
        j = tl.program_id(0) % across * OUTPUTS + tl.arange(0, OUTPUTS)
        total = tl.zeros((ROWS, OUTPUTS), tl.float32)
        for start in range(0, inputs, INPUTS):
            c = start + tl.arange(0, INPUTS)
            inside = (i < last)[:, None] & (c < inputs)[None, :]
            left = tl.load(x + i[:, None] * x_stride + c[None, :], mask=inside, other=0.0)
            known = (c < inputs)[:, None] & (j < outputs)[None, :]
            at = w + e.to(tl.int64) * w_expert + j[None, :] * w_output + c[:, None] * w_input
            right = tl.load(at, mask=known, other=0.0)
            total += tl.dot(left, right, input_precision=PRECISION)
        inside = (i < last)[:, None] & (j < outputs)[None, :]
        tl.store(y + i[:, None] * outputs + j[None, :], total.to(y.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _weight_gradient(
    dy, x, ends, dw, outputs, inputs, dy_stride, x_stride,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    e = tl.program_id(2)
    begin = 0
    if e > 0:
        begin = tl.load(ends + e - 1).to(tl.int32)
    end = tl.load(ends + e).to(tl.int32)
    j = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    c = tl.program_id(1) * INPUTS + tl.arange(0, INPUTS)
    total = tl.zeros((OUTPUTS, INPUTS), tl.float32)
    for start in range(begin, end, ROWS):
        i = (start + tl.arange(0, ROWS)).to(tl.int64)
        inside = (i < end)[:, None] & (j < outputs)[None, :]
        left = tl.load(dy + i[:, None] * dy_stride + j[None, :], mask=inside, other=0.0)
        inside = (i < end)[:, None] & (c < inputs)[None, :]
        right = tl.load(x + i[:, None] * x_stride + c[None, :], mask=inside, other=0.0)
        total += tl.dot(tl.trans(left), right, input_precision=PRECISION)
    at = dw + (e.to(tl.int64) * outputs + j[:, None]) * inputs + c[None, :]
    tl.store(at, total.to(dw.dtype.element_ty), mask=(j < outputs)[:, None] & (c < inputs)[None, :])


def _launched(x: Tensor, w: Tensor, ends: Tensor) -> Tensor:
    """Rows of x times the transposed [outputs, inputs] view w[e] of their expert."""
    experts, outputs, inputs = w.shape
    rows = x if x.stride(-1) == 1 else x.contiguous()
    y = x.new_empty((x.shape[0], outputs))
    tiles = triton.cdiv(x.shape[0], ROWS) + experts
    with device_of(x):
        _product[(triton.cdiv(outputs, OUTPUTS) * tiles,)](
            rows, w, packed(ends), y, experts, outputs, inputs, rows.stride(0), *w.stride(),
            ROWS=ROWS, OUTPUTS=OUTPUTS, INPUTS=INPUTS, PRECISION=precision(),
        )  # fmt: skip
    return y


@torch.library.custom_op("paretoformer::expert_linear", mutates_args=())
def expert_linear_op(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """x [rows, inputs] sorted by expert, weight [experts, outputs, inputs], ends: rows up to each expert."""
    return _launched(x, weight, ends)


@expert_linear_op.register_fake
def _(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[1]))


@torch.library.custom_op("paretoformer::expert_linear_backward", mutates_args=())
def expert_linear_backward_op(dy: Tensor, x: Tensor, weight: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the weights; experts without rows have zeros."""
    experts, outputs, inputs = weight.shape
    dx, dw = _launched(dy, weight.transpose(1, 2), ends), weight.new_empty(weight.shape)
    grads, rows = (part if part.stride(-1) == 1 else part.contiguous() for part in (dy, x))
    with device_of(x):
        _weight_gradient[(triton.cdiv(outputs, OUTPUTS), triton.cdiv(inputs, INPUTS), experts)](
            grads, rows, packed(ends), dw, outputs, inputs, grads.stride(0), rows.stride(0),
            ROWS=ROWS, OUTPUTS=OUTPUTS, INPUTS=INPUTS, PRECISION=precision(),
        )  # fmt: skip
    return dx, dw


@expert_linear_backward_op.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), weight.new_empty(weight.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _pull(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, ends = ctx.saved_tensors
    dx, dw = expert_linear_backward_op(dy, x, weight, ends)
    return dx, dw, None


expert_linear_op.register_autograd(_pull, setup_context=_keep)


def expert_linear(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """The rows of every expert times its weights."""
    y: Tensor = expert_linear_op(x, weight, ends)
    return y


def expert_linear_twin(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """The definition in torch, expert by expert."""
    parts, begin = [], 0
    for matrix, end in zip(weight, ends.tolist(), strict=True):
        parts.append(x[begin:end] @ matrix.T)
        begin = end
    return torch.cat(parts)
