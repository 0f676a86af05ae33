"""Root mean square normalisation in one pass over the rows, with the residual sum before it if there is one.

    h = x + branch                              y = h r gain
    r = 1 / sqrt((sum h^2 + c (sum h)^2) / D + eps)
    RMSNorm: c = 0, D = d.   CRMSNorm: c = 1, D = d + 1: the channel left out is minus the others' sum

    dh = r gain dy - r^3 (h + c sum h) / D * sum(h gain dy)        dgain = sum over rows of h r dy

Every program adds up the gradient of the gain over its own rows, and torch adds up the programs. Source:
Zhang and Sennrich 2019, arXiv:1910.07467; CRMSNorm: Jiang et al. 2023, arXiv:2305.14858.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import as_rows, device_of, packed, processors, tile_of


@triton.jit
@no_type_check
def _forward(
    x, branch, gain, y, total, inverse, rows, width, x_stride, branch_stride, divisor, eps,
    HAS_BRANCH: tl.constexpr, HAS_GAIN: tl.constexpr, IS_CRMS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < width)[None, :]
    dense = row[:, None] * width + column[None, :]
    h = tl.load(x + row[:, None] * x_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
    if HAS_BRANCH:
        added = tl.load(branch + row[:, None] * branch_stride + column[None, :], mask=inside, other=0.0)
        # rounded once, so that the norm sees what the next layer reads
        summed = (h + added.to(tl.float32)).to(total.dtype.element_ty)
        tl.store(total + dense, summed, mask=inside)
        h = summed.to(tl.float32)
    squares = tl.sum(h * h, axis=1)
    if IS_CRMS:
        left_out = tl.sum(h, axis=1)
        squares += left_out * left_out
    r = 1.0 / tl.sqrt(squares / divisor + eps)
    tl.store(inverse + row, r, mask=row < rows)
    normed = h * r[:, None]
    if HAS_GAIN:
        normed *= tl.load(gain + column, mask=column < width, other=0.0).to(tl.float32)[None, :]
    tl.store(y + dense, normed.to(y.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _backward(
    dy, dtotal, h, gain, inverse, dh, dgain, rows, width, dy_stride, dtotal_stride, h_stride, divisor, share,
    HAS_TOTAL: tl.constexpr, HAS_GAIN: tl.constexpr, IS_CRMS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    gains = tl.full((COLUMNS,), 1.0, tl.float32)
    if HAS_GAIN:
        gains = tl.load(gain + column, mask=column < width, other=0.0).to(tl.float32)
    pulled = tl.zeros((COLUMNS,), tl.float32)
    for first in range(0, share, ROWS):
        own = first + tl.arange(0, ROWS)
        row = program.to(tl.int64) * share + own
        there = (row < rows) & (own < share)
        inside = there[:, None] & (column < width)[None, :]
        grad = tl.load(dy + row[:, None] * dy_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
        value = tl.load(h + row[:, None] * h_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
        r = tl.load(inverse + row, mask=there, other=0.0)[:, None]
        if HAS_GAIN:
            pulled += tl.sum(value * r * grad, axis=0)
        grad *= gains[None, :]
        reach = value
        if IS_CRMS:
            reach += tl.sum(value, axis=1)[:, None]
        along = tl.sum(value * grad, axis=1)[:, None]
        result = r * grad - r * r * r * reach * (along / divisor)
        if HAS_TOTAL:
            at = row[:, None] * dtotal_stride + column[None, :]
            result += tl.load(dtotal + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(dh + row[:, None] * width + column[None, :], result.to(dh.dtype.element_ty), mask=inside)
    if HAS_GAIN:
        tl.store(dgain + program * width + column, pulled, mask=column < width)


@torch.library.custom_op("paretoformer::rms_norm", mutates_args=())
def rms_norm_op(
    x: Tensor, branch: Tensor | None, gain: Tensor | None, eps: float, crms: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y, x + branch (nothing where there is no branch) and r of every row."""
    rows = as_rows(x)
    added = None if branch is None else as_rows(branch)
    count, width = rows.shape
    y, total, inverse = _outputs(x, branch)
    block, columns, warps = tile_of(width)
    with device_of(x):
        _forward[(triton.cdiv(count, block),)](
            rows, added, packed(gain), y, total, inverse, count, width, rows.stride(0),
            0 if added is None else added.stride(0), float(width + crms), eps,
            HAS_BRANCH=added is not None, HAS_GAIN=gain is not None, IS_CRMS=crms,
            ROWS=block, COLUMNS=columns, num_warps=warps,
        )  # fmt: skip
    return y, total, inverse


@rms_norm_op.register_fake
def _(
    x: Tensor, branch: Tensor | None, gain: Tensor | None, eps: float, crms: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(x, branch)


def _outputs(x: Tensor, branch: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    y = x.new_empty(x.shape)
    total = x.new_empty(x.shape if branch is not None else (0,))
    return y, total, x.new_empty(x.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("paretoformer::rms_norm_backward", mutates_args=())
def rms_norm_backward_op(
    dy: Tensor, dtotal: Tensor | None, h: Tensor, gain: Tensor | None, inverse: Tensor, crms: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of h and, one row per program, of the gain."""
    grad, rows = as_rows(dy), as_rows(h)
    passed = None if dtotal is None else as_rows(dtotal)
    count, width = rows.shape
    dh, dgain = _gradients(h, gain)
    block, columns, warps = tile_of(width)
    programs = _programs(h)
    with device_of(h):
        _backward[(programs,)](
            grad, passed, rows, packed(gain), inverse, dh, dgain, count, width, grad.stride(0),
            0 if passed is None else passed.stride(0), rows.stride(0), float(width + crms),
            triton.cdiv(count, programs), HAS_TOTAL=passed is not None, HAS_GAIN=gain is not None,
            IS_CRMS=crms, ROWS=block, COLUMNS=columns, num_warps=warps,
        )  # fmt: skip
    return dh, dgain


@rms_norm_backward_op.register_fake
def _(
    dy: Tensor, dtotal: Tensor | None, h: Tensor, gain: Tensor | None, inverse: Tensor, crms: bool
) -> tuple[Tensor, Tensor]:
    return _gradients(h, gain)


def _programs(h: Tensor) -> int:
    """Four for every processor: enough to hide the loads, few enough partial gradients."""
    return 4 * processors(h)


def _gradients(h: Tensor, gain: Tensor | None) -> tuple[Tensor, Tensor]:
    partial = 0 if gain is None else _programs(h)
    return h.new_empty(h.shape), h.new_empty((partial, h.shape[-1]), dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, branch, gain, _, ctx.crms = inputs
    _, total, inverse = output
    ctx.has_branch = branch is not None
    ctx.save_for_backward(x if branch is None else total, gain, inverse)


def _pull(ctx: Any, dy: Tensor, dtotal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    h, gain, inverse = ctx.saved_tensors
    passed = dtotal if ctx.has_branch else None
    dh, partial = rms_norm_backward_op(dy, passed, h, gain, inverse, ctx.crms)
    dgain = None if gain is None else partial.sum(0).to(gain.dtype)
    return dh, dh if ctx.has_branch else None, dgain, None, None


rms_norm_op.register_autograd(_pull, setup_context=_keep)


def rms_norm(x: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    """x over its root mean square, times the gain."""
    y: Tensor = rms_norm_op(x, None, gain, eps, False)[0]
    return y


def crms_norm(x: Tensor, eps: float) -> Tensor:
    """The same of rows with mean 0 whose last channel is left out."""
    y: Tensor = rms_norm_op(x, None, None, eps, True)[0]
    return y


def add_rms_norm(x: Tensor, branch: Tensor, gain: Tensor | None, eps: float) -> tuple[Tensor, Tensor]:
    """The normed sum of both, and the sum."""
    y, total, _ = rms_norm_op(x, branch, gain, eps, False)
    return y, total


def rms_norm_twin(
    x: Tensor, branch: Tensor | None, gain: Tensor | None, eps: float, crms: bool
) -> tuple[Tensor, Tensor]:
    """The definition in torch: the normed sum, and the sum."""
    h = x if branch is None else x + branch
    wide = h.float() if h.dtype in (torch.float16, torch.bfloat16) else h
    squares = wide.square().sum(-1, keepdim=True)
    if crms:
        squares = squares + wide.sum(-1, keepdim=True).square()
    normed = wide / torch.sqrt(squares / (x.shape[-1] + crms) + eps)
    return (normed if gain is None else normed * gain).to(x.dtype), h
