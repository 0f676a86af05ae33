"""The chunked scan against the recurrence: every decay, states in and out, and one token at a time."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from space.kernels.fused.scan import faded_step, faded_sums, faded_sums_twin

Draw = Callable[..., Tensor]
Agree = Callable[..., None]
DECAYS = ("none", "head", "scalar", "vector")


def parts(
    draw: Draw, decay: str, dtype: torch.dtype, *, tokens: int, key: int, value: int
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """q, k, v and log decays of 2 sequences and 2 heads, as projections leave them."""
    q, k, v = (draw(2, tokens, 2, width, dtype=dtype).transpose(1, 2) * 0.5 for width in (key, key, value))
    if decay == "none":
        return q, k, v, None
    if decay == "head":
        return q, k, v, -draw(2, dtype=dtype).abs().mul(0.1)[None, :, None].expand(2, 2, tokens)
    shape = (2, 2, tokens) if decay == "scalar" else (2, 2, tokens, key)
    return q, k, v, -draw(*shape, dtype=dtype).abs().mul(0.5)


def piece(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, tokens: slice
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Some of the tokens."""
    part = None if decay is None else decay[:, :, tokens]
    return q[:, :, tokens], k[:, :, tokens], v[:, :, tokens], part


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize(("tokens", "key", "value"), [(81, 8, 12), (5, 20, 70), (19, 70, 6)])
def test_chunks_equal_the_recurrence(
    decay: str, dtype: torch.dtype, tokens: int, key: int, value: int, draw: Draw, agree: Agree
) -> None:
    inputs = [
        *parts(draw, decay, dtype, tokens=tokens, key=key, value=value),
        draw(2, 2, key, value, dtype=dtype),
    ]
    agree(faded_sums, faded_sums_twin, inputs, tolerance=2.0)


@pytest.mark.parametrize("decay", DECAYS)
def test_a_state_is_passed_on(decay: str, draw: Draw) -> None:
    q, k, v, fade = parts(draw, decay, torch.float32, tokens=70, key=8, value=8)
    whole, last = faded_sums(q, k, v, fade)
    first, state = faded_sums(*piece(q, k, v, fade, slice(0, 33)))
    second, after = faded_sums(*piece(q, k, v, fade, slice(33, None)), state)
    torch.testing.assert_close(torch.cat([first, second], dim=2), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after, last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("decay", DECAYS)
def test_a_step_is_one_more_token(decay: str, dtype: torch.dtype, draw: Draw, agree: Agree) -> None:
    q, k, v, fade = parts(draw, decay, dtype, tokens=1, key=20, value=70)

    def token(q: Tensor, k: Tensor, v: Tensor, decay: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
        fade = None if decay is None else decay[:, :, 0]
        y, after = faded_step(q[:, :, 0], k[:, :, 0], v[:, :, 0], fade, state)
        return y[:, :, None], after

    agree(token, faded_sums_twin, [q, k, v, fade, draw(2, 2, 20, 70, dtype=dtype)], grad=False)


def test_decays_that_forget_everything_stay_finite(draw: Draw, agree: Agree) -> None:
    q, k, v, fade = parts(draw, "scalar", torch.float32, tokens=70, key=8, value=8)
    assert fade is not None
    agree(faded_sums, faded_sums_twin, [q, k, v, fade - 30.0])
    q, k, v, fade = parts(draw, "vector", torch.float32, tokens=70, key=8, value=8)
    assert fade is not None
    agree(faded_sums, faded_sums_twin, [q, k, v, fade.clamp(-0.5, 0.0) - 3.5], tolerance=5.0)


def test_nothing_comes_from_the_future(draw: Draw) -> None:
    q, k, v, fade = parts(draw, "scalar", torch.float32, tokens=20, key=8, value=8)
    v = v.clone().requires_grad_()
    y, _ = faded_sums(q, k, v, fade)
    (grad,) = torch.autograd.grad(y[:, :, :7].sum(), v)
    assert bool((grad[:, :, 7:] == 0).all())
