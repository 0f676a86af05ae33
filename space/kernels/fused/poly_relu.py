"""PolyReLU in one pass over the numbers.

    y = a_1 r + a_2 r^2 + a_3 r^3 + b,      r = max(u, 0);   what float16 cannot hold is clamped
    du = dy (a_1 + 2 a_2 r + 3 a_3 r^2) where u > 0          da_p = sum of dy r^p        db = sum of dy

Where y was clamped nothing is pulled. Every program leaves its part of da and db, which torch adds up.
Source: Zhuo et al. 2024, arXiv:2411.03884 (PolyCom).
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import device_of, packed

BLOCK = 4096
PARTS = 4
"""Gradients of three scales and a bias."""
LIMIT = torch.finfo(torch.float16).max


@triton.jit
@no_type_check
def _polynomial(r, scales, bias):
    first, second, third = tl.load(scales), tl.load(scales + 1), tl.load(scales + 2)
    inner = (third.to(tl.float32) * r + second.to(tl.float32)) * r + first.to(tl.float32)
    return inner * r + tl.load(bias).to(tl.float32)


@triton.jit
@no_type_check
def _forward(u, scales, bias, y, count, limit, IS_HALF: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    r = tl.maximum(tl.load(u + at, mask=at < count, other=0.0).to(tl.float32), 0.0)
    result = _polynomial(r, scales, bias)
    if IS_HALF:
        result = tl.minimum(tl.maximum(result, -limit), limit)
    tl.store(y + at, result.to(y.dtype.element_ty), mask=at < count)


@triton.jit
@no_type_check
def _backward(
    dy, u, scales, bias, du, partial, count, limit, IS_HALF: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(u + at, mask=at < count, other=0.0).to(tl.float32)
    grad = tl.load(dy + at, mask=at < count, other=0.0).to(tl.float32)
    r = tl.maximum(value, 0.0)
    if IS_HALF:
        grad = tl.where(tl.abs(_polynomial(r, scales, bias)) <= limit, grad, 0.0)
    first, second, third = tl.load(scales), tl.load(scales + 1), tl.load(scales + 2)
    slope = (3.0 * third.to(tl.float32) * r + 2.0 * second.to(tl.float32)) * r + first.to(tl.float32)
    tl.store(du + at, tl.where(value > 0.0, grad * slope, 0.0).to(du.dtype.element_ty), mask=at < count)
    own = partial + tl.program_id(0) * 4
    tl.store(own, tl.sum(grad * r, axis=0))
    tl.store(own + 1, tl.sum(grad * r * r, axis=0))
    tl.store(own + 2, tl.sum(grad * r * r * r, axis=0))
    tl.store(own + 3, tl.sum(grad, axis=0))


@torch.library.custom_op("paretoformer::poly_relu", mutates_args=())
def poly_relu_op(u: Tensor, scales: Tensor, bias: Tensor) -> Tensor:
    """y."""
    y = u.new_empty(u.shape)
    count = u.numel()
    with device_of(u):
        _forward[(triton.cdiv(count, BLOCK),)](
            u.contiguous(), packed(scales), packed(bias), y, count, LIMIT,
            IS_HALF=u.dtype == torch.float16, BLOCK=BLOCK,
        )  # fmt: skip
    return y


@poly_relu_op.register_fake
def _(u: Tensor, scales: Tensor, bias: Tensor) -> Tensor:
    return u.new_empty(u.shape)


@torch.library.custom_op("paretoformer::poly_relu_backward", mutates_args=())
def poly_relu_backward_op(dy: Tensor, u: Tensor, scales: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of u, and the parts of every program of those of scales and bias."""
    du, partial = _gradients(u)
    count = u.numel()
    with device_of(u):
        _backward[(partial.shape[0],)](
            dy.contiguous(), u.contiguous(), packed(scales), packed(bias), du, partial, count, LIMIT,
            IS_HALF=u.dtype == torch.float16, BLOCK=BLOCK,
        )  # fmt: skip
    return du, partial


@poly_relu_backward_op.register_fake
def _(dy: Tensor, u: Tensor, scales: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return _gradients(u)


def _gradients(u: Tensor) -> tuple[Tensor, Tensor]:
    programs = -(-u.numel() // BLOCK)
    return u.new_empty(u.shape), u.new_empty((programs, PARTS), dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _pull(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    u, scales, bias = ctx.saved_tensors
    du, partial = poly_relu_backward_op(dy, u, scales, bias)
    sums = partial.sum(0)
    return du, sums[:3].to(scales.dtype), sums[3:].to(bias.dtype)


poly_relu_op.register_autograd(_pull, setup_context=_keep)


def poly_relu(u: Tensor, scales: Tensor, bias: Tensor) -> Tensor:
    """The polynomial of the rectifier."""
    y: Tensor = poly_relu_op(u, scales, bias)
    return y


def poly_relu_twin(u: Tensor, scales: Tensor, bias: Tensor) -> Tensor:
    """The definition in torch."""
    r = torch.relu(u.float() if u.dtype in (torch.float16, torch.bfloat16) else u)
    y = scales[2] * r**3 + scales[1] * r**2 + scales[0] * r + bias
    return (y.clamp(-LIMIT, LIMIT) if u.dtype == torch.float16 else y).to(u.dtype)
