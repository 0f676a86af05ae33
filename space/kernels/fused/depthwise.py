"""Depthwise convolution along the tokens, channels last: every channel its own few taps.

    y_t = sum_p c_p x_{t + ahead - (w - 1 - p)} + bias,     p = 0 .. w - 1, tokens outside are zeros
    dx is the same sum of dy with the taps in reverse order;     dc_p = sum_t dy_t x_{t + ahead - (w - 1 - p)}

Reads each number w times from the cache and once from memory, where the plain form pads and transposes first.
Every program leaves its part of the gradient of the taps, which torch adds up. Source: So et al. 2021,
arXiv:2109.08668 (Primer), for taps behind queries, keys and values; Gu and Dao 2023, arXiv:2312.00752.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from .launch import device_of, packed

TOKENS, CHANNELS = 32, 128


@triton.jit
@no_type_check
def _forward(
    x, kernel, bias, y, tokens, channels, xb, xt, xc, ahead, blocks, HAS_BIAS: tl.constexpr,
    IS_REVERSED: tl.constexpr, TAPS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    b = (tl.program_id(0) // blocks).to(tl.int64)
    t = tl.program_id(0) % blocks * TOKENS + tl.arange(0, TOKENS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = c < channels
    total = tl.zeros((TOKENS, CHANNELS), tl.float32)
    for p in tl.static_range(TAPS):
        source = t.to(tl.int64) + ahead - (TAPS - 1 - p)
        inside = ((source >= 0) & (source < tokens) & (t < tokens))[:, None] & known[None, :]
        at = x + b * xb + source[:, None] * xt + c.to(tl.int64)[None, :] * xc
        tap = TAPS - 1 - p if IS_REVERSED else p
        weight = tl.load(kernel + c * TAPS + tap, mask=known, other=0.0).to(tl.float32)
        total += weight[None, :] * tl.load(at, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        total += tl.load(bias + c, mask=known, other=0.0).to(tl.float32)[None, :]
    out = y + (b * tokens + t[:, None]) * channels + c[None, :]
    tl.store(out, total.to(y.dtype.element_ty), mask=(t < tokens)[:, None] & known[None, :])


@triton.jit
@no_type_check
def _taps_backward(
    dy, x, partial, tokens, channels, pb, pt, pc, xb, xt, xc, ahead, blocks,
    TAPS: tl.constexpr, TOKENS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Gradients of the taps and, in the last row, of the bias."""
    b = (tl.program_id(0) // blocks).to(tl.int64)
    t = tl.program_id(0) % blocks * TOKENS + tl.arange(0, TOKENS)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = c < channels
    here = (t < tokens)[:, None] & known[None, :]
    grad_at = dy + b * pb + t.to(tl.int64)[:, None] * pt + c.to(tl.int64)[None, :] * pc
    grad = tl.load(grad_at, mask=here, other=0.0).to(tl.float32)
    own = partial + tl.program_id(0).to(tl.int64) * (TAPS + 1) * channels + c
    for p in tl.static_range(TAPS):
        source = t.to(tl.int64) + ahead - (TAPS - 1 - p)
        inside = ((source >= 0) & (source < tokens))[:, None] & known[None, :]
        at = x + b * xb + source[:, None] * xt + c.to(tl.int64)[None, :] * xc
        product = grad * tl.load(at, mask=inside, other=0.0).to(tl.float32)
        tl.store(own + p * channels, tl.sum(product, axis=0), mask=known)
    tl.store(own + TAPS * channels, tl.sum(grad, axis=0), mask=known)


def _launched(x: Tensor, kernel: Tensor, bias: Tensor | None, ahead: int, *, is_reversed: bool) -> Tensor:
    y = x.new_empty(x.shape)
    tokens, channels = x.shape[1:]
    blocks = triton.cdiv(tokens, TOKENS)
    with device_of(x):
        _forward[(x.shape[0] * blocks, triton.cdiv(channels, CHANNELS))](
            x, packed(kernel), packed(bias), y, tokens, channels, *x.stride(), ahead, blocks,
            HAS_BIAS=bias is not None, IS_REVERSED=is_reversed, TAPS=kernel.shape[1], TOKENS=TOKENS,
            CHANNELS=CHANNELS,
        )  # fmt: skip
    return y


@torch.library.custom_op("paretoformer::depthwise", mutates_args=())
def depthwise_op(x: Tensor, kernel: Tensor, bias: Tensor | None, ahead: int) -> Tensor:
    """y, dense."""
    return _launched(x, kernel, bias, ahead, is_reversed=False)


@depthwise_op.register_fake
def _(x: Tensor, kernel: Tensor, bias: Tensor | None, ahead: int) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("paretoformer::depthwise_backward", mutates_args=())
def depthwise_backward_op(dy: Tensor, x: Tensor, kernel: Tensor, ahead: int) -> tuple[Tensor, Tensor]:
    """Gradient of x, and the parts of every program of those of taps and bias."""
    taps = kernel.shape[1]
    tokens, channels = x.shape[1:]
    dx = _launched(dy, kernel, None, taps - 1 - ahead, is_reversed=True)
    partial = _partial(x, taps)
    blocks = triton.cdiv(tokens, TOKENS)
    with device_of(x):
        _taps_backward[(x.shape[0] * blocks, triton.cdiv(channels, CHANNELS))](
            dy, x, partial, tokens, channels, *dy.stride(), *x.stride(), ahead, blocks,
            TAPS=taps, TOKENS=TOKENS, CHANNELS=CHANNELS,
        )  # fmt: skip
    return dx, partial


@depthwise_backward_op.register_fake
def _(dy: Tensor, x: Tensor, kernel: Tensor, ahead: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), _partial(x, kernel.shape[1])


def _partial(x: Tensor, taps: int) -> Tensor:
    programs = x.shape[0] * (-(-x.shape[1] // TOKENS))
    return x.new_empty((programs, taps + 1, x.shape[2]), dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, kernel, bias, ctx.ahead = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(x, kernel)


def _pull(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, kernel = ctx.saved_tensors
    dx, partial = depthwise_backward_op(dy, x, kernel, ctx.ahead)
    sums = partial.sum(0)
    dbias = None if ctx.bias_dtype is None else sums[-1].to(ctx.bias_dtype)
    return dx, sums[:-1].T.to(kernel.dtype), dbias, None


depthwise_op.register_autograd(_pull, setup_context=_keep)


def depthwise(x: Tensor, kernel: Tensor, bias: Tensor | None, ahead: int) -> Tensor:
    """x [batch, tokens, channels], any strides; kernel [channels, taps]."""
    y: Tensor = depthwise_op(x, kernel, bias, ahead)
    return y


def depthwise_twin(x: Tensor, kernel: Tensor, bias: Tensor | None, ahead: int) -> Tensor:
    """The definition in torch, as a grouped convolution."""
    padded = functional.pad(x.transpose(1, 2), (kernel.shape[1] - 1 - ahead, ahead))
    return functional.conv1d(padded, kernel[:, None, :], bias, groups=x.shape[2]).transpose(1, 2)
