"""PolyNorm in one pass over the rows: three normed powers, their scales and the bias.

    y = sum_p a_p n_p u^p + b,      n_p = 1 / sqrt(mean(u^2p) + eps),   p = 1, 2, 3
    du = sum_p p a_p n_p u^(p-1) (dy - n_p^2 u^p mean_j(dy_j u_j^p))
    da_p = sum over rows of n_p sum_j(dy_j u_j^p)                          db = sum of dy

Nothing but the input is kept for the gradient: its row is in registers anyway. Every row leaves its part of
da and db, which torch adds up. Source: Zhuo et al. 2024, arXiv:2411.03884 (PolyCom); the gradient is ours.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import as_rows, device_of, packed, tile_of

EPS = 1e-12
PARTS = 4
"""Gradients of three scales and a bias."""


@triton.jit
@no_type_check
def _forward(
    u, scales, bias, y, rows, width, u_stride, eps, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < width)[None, :]
    value = tl.load(u + row[:, None] * u_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
    square = value * value
    fourth = square * square
    first = tl.load(scales).to(tl.float32) / tl.sqrt(tl.sum(square, axis=1) / width + eps)
    second = tl.load(scales + 1).to(tl.float32) / tl.sqrt(tl.sum(fourth, axis=1) / width + eps)
    third = tl.load(scales + 2).to(tl.float32) / tl.sqrt(tl.sum(fourth * square, axis=1) / width + eps)
    result = ((third[:, None] * value + second[:, None]) * value + first[:, None]) * value
    result += tl.load(bias).to(tl.float32)
    tl.store(y + row[:, None] * width + column[None, :], result.to(y.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _backward(
    dy, u, scales, du, partial, rows, width, dy_stride, u_stride, eps,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    there = row < rows
    inside = there[:, None] & (column < width)[None, :]
    value = tl.load(u + row[:, None] * u_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(dy + row[:, None] * dy_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
    result = tl.zeros((ROWS, COLUMNS), tl.float32)
    before = tl.full((ROWS, COLUMNS), 1.0, tl.float32)  # u^(p - 1)
    for p in tl.static_range(3):
        power = before * value
        n = 1.0 / tl.sqrt(tl.sum(power * power, axis=1) / width + eps)
        along = tl.sum(grad * power, axis=1)
        tl.store(partial + row * 4 + p, n * along, mask=there)
        scale = (p + 1.0) * tl.load(scales + p).to(tl.float32)
        pulled = grad - power * (n * n * along / width)[:, None]
        result += scale * n[:, None] * before * pulled
        before = power
    tl.store(partial + row * 4 + 3, tl.sum(grad, axis=1), mask=there)
    tl.store(du + row[:, None] * width + column[None, :], result.to(du.dtype.element_ty), mask=inside)


@torch.library.custom_op("paretoformer::poly_norm", mutates_args=())
def poly_norm_op(u: Tensor, scales: Tensor, bias: Tensor) -> Tensor:
    """y."""
    rows = as_rows(u)
    count, width = rows.shape
    y = u.new_empty(u.shape)
    block, columns, warps = tile_of(width)
    with device_of(u):
        _forward[(triton.cdiv(count, block),)](
            rows, packed(scales), packed(bias), y, count, width, rows.stride(0), EPS,
            ROWS=block, COLUMNS=columns, num_warps=warps,
        )  # fmt: skip
    return y


@poly_norm_op.register_fake
def _(u: Tensor, scales: Tensor, bias: Tensor) -> Tensor:
    return u.new_empty(u.shape)


@torch.library.custom_op("paretoformer::poly_norm_backward", mutates_args=())
def poly_norm_backward_op(dy: Tensor, u: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of u, and the parts of every row of those of scales and bias."""
    grad, rows = as_rows(dy), as_rows(u)
    count, width = rows.shape
    du, partial = _gradients(u)
    block, columns, warps = tile_of(width)
    with device_of(u):
        _backward[(triton.cdiv(count, block),)](
            grad, rows, packed(scales), du, partial, count, width, grad.stride(0), rows.stride(0), EPS,
            ROWS=block, COLUMNS=columns, num_warps=warps,
        )  # fmt: skip
    return du, partial


@poly_norm_backward_op.register_fake
def _(dy: Tensor, u: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    return _gradients(u)


def _gradients(u: Tensor) -> tuple[Tensor, Tensor]:
    rows = u.numel() // u.shape[-1]
    return u.new_empty(u.shape), u.new_empty((rows, PARTS), dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    u, scales, bias = inputs
    ctx.bias_dtype = bias.dtype
    ctx.save_for_backward(u, scales)


def _pull(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    u, scales = ctx.saved_tensors
    du, partial = poly_norm_backward_op(dy, u, scales)
    sums = partial.sum(0)
    return du, sums[:3].to(scales.dtype), sums[3:].to(ctx.bias_dtype)


poly_norm_op.register_autograd(_pull, setup_context=_keep)


def poly_norm(u: Tensor, scales: Tensor, bias: Tensor) -> Tensor:
    """The polynomial of every row's normed powers."""
    y: Tensor = poly_norm_op(u, scales, bias)
    return y


def poly_norm_twin(u: Tensor, scales: Tensor, bias: Tensor) -> Tensor:
    """The definition in torch."""
    wide = u.float() if u.dtype in (torch.float16, torch.bfloat16) else u
    total = bias.to(wide.dtype)
    for p, scale in enumerate(scales, start=1):
        power = wide**p
        total = total + scale * power / torch.sqrt(power.square().mean(-1, keepdim=True) + EPS)
    return total.to(u.dtype)
