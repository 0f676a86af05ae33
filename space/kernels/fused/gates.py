"""The gate of a gated feed-forward and its product, and the squared rectifier, in one pass each.

    z = act(gate) * up,     gate and up the two halves of every row of a projection
    dgate = dz up act'(gate)     dup = dz act(gate)        relu2: y = max(u, 0)^2,   du = 2 dy max(u, 0)

The gradient is written as the projection lays its rows out, so that nothing is put together afterwards.
Computed in float32; what float16 cannot hold of a squared rectifier is clamped, as in the plain form, and has
no gradient. Source: Shazeer 2020, arXiv:2002.05202; So et al. 2021, arXiv:2109.08668 (Primer).
"""

from collections.abc import Callable, Mapping
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from .launch import as_rows, device_of

ACTIVATIONS = ("sigmoid", "gelu", "gelu_tanh", "silu", "relu", "relu2", "identity")
"""The place of a name is its number in the kernels."""

ROWS, COLUMNS = 4, 1024
LIMIT = torch.finfo(torch.float16).max


@triton.jit
@no_type_check
def _activated(u, KIND: tl.constexpr, LIMIT: tl.constexpr):
    """act(u) and act'(u); LIMIT: largest value of the square, 0 for none."""
    if KIND == 0:
        value = tl.sigmoid(u)
        slope = value * (1.0 - value)
    elif KIND == 1:
        below = 0.5 * (1.0 + tl.erf(u * 0.7071067811865476))
        value = u * below
        slope = below + u * tl.exp(-0.5 * u * u) * 0.3989422804014327
    elif KIND == 2:
        # (1 + tanh(w)) / 2 is sigmoid(2 w)
        below = tl.sigmoid(1.5957691216057308 * (u + 0.044715 * u * u * u))
        value = u * below
        slope = below + value * (1.0 - below) * 1.5957691216057308 * (1.0 + 0.134145 * u * u)
    elif KIND == 3:
        below = tl.sigmoid(u)
        value = u * below
        slope = below + value * (1.0 - below)
    elif KIND == 4:
        value = tl.maximum(u, 0.0)
        slope = tl.where(u > 0.0, 1.0, 0.0)
    elif KIND == 5:
        r = tl.maximum(u, 0.0)
        value = r * r
        slope = 2.0 * r
        if LIMIT > 0:
            slope = tl.where(value <= LIMIT, slope, 0.0)
            value = tl.minimum(value, LIMIT)
    else:
        value = u
        slope = tl.full(u.shape, 1.0, tl.float32)
    return value, slope


@triton.jit
@no_type_check
def _forward(
    packed, z, rows, width, stride, HAS_UP: tl.constexpr, KIND: tl.constexpr, LIMIT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < width)[None, :]
    at = row[:, None] * stride + column[None, :]
    gate = tl.load(packed + at, mask=inside, other=0.0).to(tl.float32)
    value, _ = _activated(gate, KIND, LIMIT)
    if HAS_UP:
        value *= tl.load(packed + at + width, mask=inside, other=0.0).to(tl.float32)
    tl.store(z + row[:, None] * width + column[None, :], value.to(z.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _backward(
    dz, packed, dpacked, rows, width, dz_stride, stride, HAS_UP: tl.constexpr, KIND: tl.constexpr,
    LIMIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < width)[None, :]
    at = row[:, None] * stride + column[None, :]
    gate = tl.load(packed + at, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(dz + row[:, None] * dz_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
    value, slope = _activated(gate, KIND, LIMIT)
    out = row[:, None] * (width * (1 + HAS_UP)) + column[None, :]
    if HAS_UP:
        up = tl.load(packed + at + width, mask=inside, other=0.0).to(tl.float32)
        tl.store(dpacked + out + width, (grad * value).to(dpacked.dtype.element_ty), mask=inside)
        grad *= up
    tl.store(dpacked + out, (grad * slope).to(dpacked.dtype.element_ty), mask=inside)


@torch.library.custom_op("paretoformer::gated", mutates_args=())
def gated_op(packed: Tensor, activation: str, has_up: bool) -> Tensor:
    """z."""
    rows, z = as_rows(packed), _half(packed, has_up)
    count, width = rows.shape[0], z.shape[-1]
    with device_of(packed):
        _forward[_grid(count, width)](
            rows, z, count, width, rows.stride(0), HAS_UP=has_up, KIND=ACTIVATIONS.index(activation),
            LIMIT=_limit(packed), ROWS=ROWS, COLUMNS=COLUMNS, num_warps=8,
        )  # fmt: skip
    return z


@gated_op.register_fake
def _(packed: Tensor, activation: str, has_up: bool) -> Tensor:
    return _half(packed, has_up)


@torch.library.custom_op("paretoformer::gated_backward", mutates_args=())
def gated_backward_op(dz: Tensor, packed: Tensor, activation: str, has_up: bool) -> Tensor:
    """Gradient of the packed rows."""
    grad, rows = as_rows(dz), as_rows(packed)
    dpacked = packed.new_empty(packed.shape)
    count, width = grad.shape
    with device_of(packed):
        _backward[_grid(count, width)](
            grad, rows, dpacked, count, width, grad.stride(0), rows.stride(0), HAS_UP=has_up,
            KIND=ACTIVATIONS.index(activation), LIMIT=_limit(packed), ROWS=ROWS, COLUMNS=COLUMNS, num_warps=8,
        )  # fmt: skip
    return dpacked


@gated_backward_op.register_fake
def _(dz: Tensor, packed: Tensor, activation: str, has_up: bool) -> Tensor:
    return packed.new_empty(packed.shape)


def _grid(rows: int, width: int) -> tuple[int, int]:
    return triton.cdiv(rows, ROWS), triton.cdiv(width, COLUMNS)


def _half(packed: Tensor, has_up: bool) -> Tensor:
    return packed.new_empty((*packed.shape[:-1], packed.shape[-1] // (1 + has_up)))


def _limit(packed: Tensor) -> float:
    return LIMIT if packed.dtype == torch.float16 else 0.0


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    packed, ctx.activation, ctx.has_up = inputs
    ctx.save_for_backward(packed)


def _pull(ctx: Any, dz: Tensor) -> tuple[Tensor | None, ...]:
    (packed,) = ctx.saved_tensors
    return gated_backward_op(dz, packed, ctx.activation, ctx.has_up), None, None


gated_op.register_autograd(_pull, setup_context=_keep)


def gated(packed: Tensor, activation: str) -> Tensor:
    """act(gate) * up of rows that hold the gate and then up."""
    z: Tensor = gated_op(packed, activation, True)
    return z


def relu2(u: Tensor) -> Tensor:
    """The squared rectifier."""
    y: Tensor = gated_op(u, "relu2", False)
    return y


def _squared(u: Tensor) -> Tensor:
    return torch.relu(u).square()


TWINS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "gelu": functional.gelu,
    "gelu_tanh": lambda u: functional.gelu(u, approximate="tanh"),
    "silu": functional.silu,
    "relu": torch.relu,
    "relu2": _squared,
    "identity": lambda u: u,
}


def gated_twin(packed: Tensor, activation: str) -> Tensor:
    """The definition in torch."""
    gate, up = packed.chunk(2, dim=-1)
    return TWINS[activation](gate) * up
