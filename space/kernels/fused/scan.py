"""Sums over the past whose terms fade, by chunks: linear attention, retention, gated ones, Mamba-2.

    S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T        o_t = q_t S_t

g: nothing, one log decay per head and token (the same number for all tokens with an expanded view), or one
per key channel. Queries, keys and values are [batch, heads, tokens, width] views with any strides; heads may
share keys by an expanded view.

The gradient of log decays needs no kernel of its own: with b_t the sum of g up to t, dL/db_t = q_t dq_t - k_t
dk_t (and S dS for the last one), of which dg is the sum from t on. Source: Yang et al. 2023, arXiv:2312.06635
(chunks, gradient of gates); Dao and Gu 2024, arXiv:2405.21060.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from . import scan_kernels
from .launch import channels_of_tile, dense, device_of, precision, strides_of, tokens_first, tokens_of_tile

VECTOR_CHUNK = 16
"""Factors of log decays down to -4 stay within exp(+-32)."""
SCALAR_FLOOR = -40.0
"""Least log decay per token of a head: exp(-40) is nothing, and sums of them stay precise."""


def _tile(q: Tensor) -> int:
    """Tokens and value channels of a tile. Wide heads in float32: with more of them a program needs more
    numbers at once than it has registers, and ptxas then keeps all in memory."""
    is_heavy = q.dtype == torch.float32 and channels_of_tile(q) > 64
    return 16 if is_heavy else tokens_of_tile(q)


def _chunk(q: Tensor, decay: Tensor | None) -> int:
    """Tokens of a chunk."""
    return VECTOR_CHUNK if decay is not None and decay.dim() == 4 else _tile(q)


def _dense_decay(decay: Tensor | None, axes: int) -> Tensor | None:
    """Log decays by key channel, which have so many axes, side by side; those of heads may lie anywhere."""
    return dense(decay) if decay is not None and decay.dim() == axes else decay


def _decay_strides(decay: Tensor | None) -> list[int]:
    return [0, 0, 0] if decay is None else list(decay.stride()[:3])


def _sizes(q: Tensor, v: Tensor, decay: Tensor | None) -> tuple[dict[str, Any], int, int]:
    """Constants of a launch; number of chunks, and of blocks of value channels."""
    values = min(_tile(q), channels_of_tile(v))
    constants: dict[str, Any] = {
        "DECAY": 0 if decay is None else decay.dim() - 2,
        "TOKENS": _chunk(q, decay),
        "KEYS": channels_of_tile(q),
        "VALUES": values,
        "PRECISION": precision(),
        "num_warps": 8 if channels_of_tile(q) > 64 or q.dtype == torch.float32 else 4,
    }
    return constants, triton.cdiv(q.shape[2], _chunk(q, decay)), triton.cdiv(v.shape[-1], values)


def _state(q: Tensor, v: Tensor) -> Tensor:
    return q.new_empty((*q.shape[:2], q.shape[-1], v.shape[-1]), dtype=torch.float32)


def _chunk_states(q: Tensor, v: Tensor, decay: Tensor | None) -> Tensor:
    count = -(-q.shape[2] // _chunk(q, decay))
    return q.new_empty((*q.shape[:2], count, q.shape[-1], v.shape[-1]))


@torch.library.custom_op("paretoformer::faded_sums", mutates_args=())
def faded_sums_op(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, initial: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, the state after all tokens, and the states before every chunk."""
    q, k, v, decay = dense(q), dense(k), dense(v), _dense_decay(decay, 4)
    b, heads, tokens, key = q.shape
    value = v.shape[-1]
    constants, chunks, blocks = _sizes(q, v, decay)
    before, final, o = _chunk_states(q, v, decay), _state(q, v), tokens_first(v, value)
    start = None if initial is None else initial.contiguous()
    with device_of(q):
        scan_kernels.states[(blocks * b * heads,)](
            k, v, decay, start, before, final, tokens, chunks, heads, *strides_of(k, v),
            *_decay_strides(decay), key, value, HAS_INITIAL=start is not None, **constants,
        )  # fmt: skip
        scan_kernels.outputs[(blocks * chunks * b * heads,)](
            q, k, v, decay, before, o, tokens, chunks, heads, *strides_of(q, k, v), *_decay_strides(decay),
            *strides_of(o), key, value, **constants,
        )  # fmt: skip
    return o, final, before


@faded_sums_op.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, initial: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return tokens_first(v, v.shape[-1]), _state(q, v), _chunk_states(q, v, decay)


@torch.library.custom_op("paretoformer::faded_sums_backward", mutates_args=())
def faded_sums_backward_op(
    do: Tensor, dfinal: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, before: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, of the running sums of log decays, and of the initial state."""
    do, q, k, v, decay = dense(do), dense(q), dense(k), dense(v), _dense_decay(decay, 4)
    b, heads, tokens, key = q.shape
    value = v.shape[-1]
    constants, chunks, blocks = _sizes(q, v, decay)
    dq, dk, dv, drunning, dinitial = _gradients(q, v, decay)
    dafter = torch.empty_like(before)
    with device_of(q):
        scan_kernels.state_gradients[(blocks * b * heads,)](
            q, do, decay, dfinal.contiguous(), dafter, dinitial, tokens, chunks, heads, *strides_of(q, do),
            *_decay_strides(decay), key, value, **constants,
        )  # fmt: skip
        scan_kernels.gradients[(chunks * b * heads,)](
            q, k, v, decay, do, before, dafter, dq, dk, dv, drunning, tokens, chunks, heads,
            *strides_of(q, k, v), *_decay_strides(decay), *strides_of(do, dq, dv), key, value, **constants,
        )  # fmt: skip
    return dq, dk, dv, drunning, dinitial


@faded_sums_backward_op.register_fake
def _(
    do: Tensor, dfinal: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, before: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _gradients(q, v, decay)


def _gradients(q: Tensor, v: Tensor, decay: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    key, value = q.shape[-1], v.shape[-1]
    running = q.new_empty((0,) if decay is None else decay.shape, dtype=torch.float32)
    return (
        tokens_first(q, key), tokens_first(q, key), tokens_first(v, value), running, _state(q, v),
    )  # fmt: skip


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    q, k, v, decay, initial = inputs
    _, final, before = output
    ctx.initial_dtype = None if initial is None else initial.dtype
    ctx.save_for_backward(q, k, v, decay, final, before)


def _pull(ctx: Any, do: Tensor, dfinal: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, decay, final, before = ctx.saved_tensors
    dq, dk, dv, drunning, dinitial = faded_sums_backward_op(do, dfinal, q, k, v, decay, before)
    ddecay = None
    if decay is not None:
        last = (final * dfinal).sum(-1)  # of the last running sum, by key channel
        last = (last.sum(-1, keepdim=True) if decay.dim() == 3 else last[:, :, None]).to(drunning.dtype)
        ddecay = (drunning.flip(2).cumsum(2).flip(2) + last).to(decay.dtype)
    return dq, dk, dv, ddecay, None if ctx.initial_dtype is None else dinitial.to(ctx.initial_dtype)


faded_sums_op.register_autograd(_pull, setup_context=_keep)


def faded_sums(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs [batch, heads, tokens, value] and the state after them, in float32.

    `log_decay`: None, [batch, heads, tokens], or [batch, heads, tokens, key] of at least -4 each.
    """
    if log_decay is not None and log_decay.dim() == 3:
        log_decay = log_decay.clamp(min=SCALAR_FLOOR)
    o, final, _ = faded_sums_op(q, k, v, log_decay, initial)
    return o, final


@torch.library.custom_op("paretoformer::faded_step", mutates_args=())
def faded_step_op(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Output of one token and the state after it."""
    q, k, v, state = dense(q), dense(k), dense(v), state.contiguous()
    b, heads, key = q.shape
    value = v.shape[-1]
    values = min(tokens_of_tile(q), channels_of_tile(v))
    o, after = v.new_empty(v.shape), torch.empty_like(state)
    fade = _dense_decay(decay, 3)
    strides = [stride for part in (q, k, v) for stride in part.stride()[:2]]
    with device_of(q):
        scan_kernels.step[(triton.cdiv(value, values) * b * heads,)](
            q, k, v, fade, state, o, after, heads, *strides,
            *((0, 0) if fade is None else fade.stride()[:2]), key, value,
            DECAY=0 if fade is None else fade.dim() - 1, KEYS=channels_of_tile(q), VALUES=values,
        )  # fmt: skip
    return o, after


@faded_step_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape), state.new_empty(state.shape)


def faded_step(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: q, k [batch, heads, key], v [batch, heads, value], log decay [batch, heads] or by key."""
    y: tuple[Tensor, Tensor] = faded_step_op(q, k, v, log_decay, state)
    return y


def faded_sums_twin(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition, token by token."""
    state = torch.zeros_like(k[:, :, 0, :, None] * v[:, :, 0, None, :]) if initial is None else initial
    rows = []
    for t in range(q.shape[2]):
        if log_decay is not None:
            step = log_decay[:, :, t]
            state = (
                state * torch.exp(step)[..., None, None] if step.dim() == 2 else state * step.exp()[..., None]
            )
        state = state + k[:, :, t, :, None] * v[:, :, t, None, :]
        rows.append((q[:, :, t, :, None] * state).sum(-2))
    return torch.stack(rows, dim=2), state
