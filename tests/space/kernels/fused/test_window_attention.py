"""Attention in windows, and with clipped weights, against the full square of scores."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from space.kernels.fused.attention import window_attention, window_attention_twin

Draw = Callable[..., Tensor]
Agree = Callable[..., None]
FULL = 10_000


def parts(draw: Draw, dtype: torch.dtype, *, tokens: int, groups: int = 2, width: int = 12) -> list[Tensor]:
    """q, k, v of 4 heads, as projections leave them."""
    return [draw(1, tokens, heads, width, dtype=dtype).transpose(1, 2) for heads in (4, groups, groups)]


@pytest.mark.parametrize(
    ("tokens", "back", "ahead"), [(70, 6, 0), (70, FULL, 0), (70, 3, 3), (33, FULL, FULL), (150, 40, 0)]
)
def test_windows(dtype: torch.dtype, tokens: int, back: int, ahead: int, draw: Draw, agree: Agree) -> None:
    agree(
        lambda q, k, v: window_attention(q, k, v, back, ahead),
        lambda q, k, v: window_attention_twin(q, k, v, back, ahead),
        parts(draw, dtype, tokens=tokens),
    )


@pytest.mark.parametrize(("back", "ahead"), [(FULL, 0), (5, 5)])
@pytest.mark.parametrize("gamma", [-0.03, 0.0])
def test_clipped_weights(
    dtype: torch.dtype, gamma: float, back: int, ahead: int, draw: Draw, agree: Agree
) -> None:
    at = torch.tensor(gamma)
    q, k, v = parts(draw, dtype, tokens=70, groups=4)
    agree(
        lambda q, k, v: window_attention(q, k, v, back, ahead, at.to(q)),
        lambda q, k, v: window_attention_twin(q, k, v, back, ahead, at.to(q.device)),
        [q, k, v],
    )


def test_clipping_cuts_something(draw: Draw) -> None:
    """What the test above compares has weights of 0 and others."""
    q, k, v = parts(draw, torch.float32, tokens=70, groups=4)
    clipped = window_attention(q, k, v, FULL, 0, torch.tensor(-0.03, device=q.device))
    plain = window_attention(q, k, v, FULL, 0)
    assert float((clipped - plain).abs().mean()) > 0.05


@pytest.mark.parametrize("width", [64, 70])
def test_one_head_for_all(width: int, draw: Draw, agree: Agree) -> None:
    q, k, v = (draw(2, 21, heads, width).transpose(1, 2) for heads in (4, 1, 1))
    agree(
        lambda q, k, v: window_attention(q, k, v, FULL, 0),
        lambda q, k, v: window_attention_twin(q, k, v, FULL, 0),
        [q, k, v],
    )


def test_keys_outside_the_window_have_no_gradient(draw: Draw) -> None:
    q, k, v = parts(draw, torch.float32, tokens=40)
    v = v.clone().requires_grad_()
    (grad,) = torch.autograd.grad(window_attention(q, k, v, 4, 0)[:, :, 20].sum(), v)
    seen = grad.abs().sum((0, 1, 3)) > 0
    assert seen.nonzero().flatten().tolist() == [16, 17, 18, 19, 20]
