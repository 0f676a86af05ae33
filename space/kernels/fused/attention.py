"""Softmax attention in a window, with clipped weights where wanted, without a square of scores in memory.

    o_i = sum_j P'_ij v_j,   P = softmax_j(q_i . k_j / sqrt(width)) over the keys with -ahead <= i - j <= back
    P' = clip((1 - gamma) P + gamma, 0, 1) with a gamma, else P

Query head a reads key and value head floor(a groups / heads). What is kept for the gradient is one number per
query, the logarithm of its sum. Source: Dao 2023, arXiv:2307.08691 (tiles, order of the loops); windows:
Beltagy et al. 2020, arXiv:2004.05150; clip: Bondarenko et al. 2023, arXiv:2306.12929. The gradient of the
clipped form is ours.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from . import attention_kernels
from .launch import channels_of_tile, dense, device_of, precision, strides_of, tokens_first, tokens_of_tile


def _constants(q: Tensor, gamma: Tensor | None) -> dict[str, Any]:
    return {
        "CLIPPED": gamma is not None,
        "QUERIES": tokens_of_tile(q),
        "KEYS": tokens_of_tile(q),
        "CHANNELS": channels_of_tile(q),
        "PRECISION": precision(),
        "num_warps": 4 if channels_of_tile(q) <= 64 else 8,
    }


def _numbers(q: Tensor, k: Tensor, back: int, ahead: int) -> tuple[int, int, int, int, int, float]:
    """Tokens, heads, groups, the window within the tokens, and the scale."""
    tokens = q.shape[2]
    return tokens, q.shape[1], k.shape[1], min(back, tokens), min(ahead, tokens), q.shape[-1] ** -0.5


@torch.library.custom_op("paretoformer::window_attention", mutates_args=())
def window_attention_op(
    q: Tensor, k: Tensor, v: Tensor, gamma: Tensor | None, back: int, ahead: int
) -> tuple[Tensor, Tensor]:
    """Attended values, and the logarithm of every query's sum."""
    q, k, v = dense(q), dense(k), dense(v)
    b, heads, tokens, width = q.shape
    o, lse = tokens_first(q, q.shape[-1]), q.new_empty((b, heads, tokens), dtype=torch.float32)
    with device_of(q):
        attention_kernels.forward[(triton.cdiv(tokens, tokens_of_tile(q)) * b * heads,)](
            q, k, v, gamma, o, lse, *_numbers(q, k, back, ahead), *strides_of(q, k, v, o), width,
            **_constants(q, gamma),
        )  # fmt: skip
    return o, lse


@window_attention_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, gamma: Tensor | None, back: int, ahead: int) -> tuple[Tensor, Tensor]:
    return tokens_first(q, q.shape[-1]), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("paretoformer::window_attention_backward", mutates_args=())
def window_attention_backward_op(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, gamma: Tensor | None, o: Tensor, lse: Tensor,
    back: int, ahead: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k and v."""
    do, q, k, v = dense(do), dense(q), dense(k), dense(v)
    b, heads, tokens, width = q.shape
    groups = k.shape[1]
    dq, dk, dv = tokens_first(q, q.shape[-1]), tokens_first(k, k.shape[-1]), tokens_first(v, v.shape[-1])
    delta = torch.empty_like(lse)
    numbers, constants = _numbers(q, k, back, ahead), _constants(q, gamma)
    with device_of(q):
        attention_kernels.by_queries[(triton.cdiv(tokens, tokens_of_tile(q)) * b * heads,)](
            q, k, v, gamma, o, do, lse, dq, delta, *numbers, *strides_of(q, k, v, o, do, dq), width,
            **constants,
        )  # fmt: skip
        attention_kernels.by_keys[(triton.cdiv(tokens, tokens_of_tile(q)) * b * groups,)](
            q, k, v, gamma, do, lse, delta, dk, dv, *numbers, *strides_of(q, k, v, do, dk), width,
            **constants,
        )  # fmt: skip
    return dq, dk, dv


@window_attention_backward_op.register_fake
def _(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, gamma: Tensor | None, o: Tensor, lse: Tensor,
    back: int, ahead: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return tokens_first(q, q.shape[-1]), tokens_first(k, k.shape[-1]), tokens_first(v, v.shape[-1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    q, k, v, gamma, ctx.back, ctx.ahead = inputs
    ctx.save_for_backward(q, k, v, gamma, *output)


def _pull(ctx: Any, do: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, gamma, o, lse = ctx.saved_tensors
    grads = window_attention_backward_op(do, q, k, v, gamma, o, lse, ctx.back, ctx.ahead)
    return *grads, None, None, None


window_attention_op.register_autograd(_pull, setup_context=_keep)


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, back: int, ahead: int, gamma: Tensor | None = None
) -> Tensor:
    """Attended values [batch, heads, tokens, width]; `gamma`: a number as a tensor, at most 0."""
    o: Tensor = window_attention_op(q, k, v, gamma, back, ahead)[0]
    return o


def window_attention_twin(
    q: Tensor, k: Tensor, v: Tensor, back: int, ahead: int, gamma: Tensor | None = None
) -> Tensor:
    """The definition in torch: the full square of scores."""
    heads, n, width = q.shape[1:]
    k, v = (part.repeat_interleave(heads // part.shape[1], dim=1) for part in (k, v))
    behind = torch.arange(n, device=q.device)[:, None] - torch.arange(n, device=q.device)[None, :]
    seen = (behind <= back) & (behind >= -ahead)
    scores = (q @ k.transpose(-1, -2)) * width**-0.5
    weights = torch.softmax(scores.masked_fill(~seen, float("-inf")).to(_wide(q)), dim=-1)
    if gamma is not None:
        weights = ((1.0 - gamma) * weights + gamma).clamp(0.0, 1.0)
    return weights.to(v.dtype) @ v


def _wide(q: Tensor) -> torch.dtype:
    return torch.promote_types(q.dtype, torch.float32)
