"""Norms, polynomial activations and gates: values and gradients of every variant."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from space.kernels.fused.gates import ACTIVATIONS, LIMIT, gated, gated_twin, relu2
from space.kernels.fused.poly_norm import poly_norm, poly_norm_twin
from space.kernels.fused.poly_relu import poly_relu, poly_relu_twin
from space.kernels.fused.rms_norm import add_rms_norm, crms_norm, rms_norm, rms_norm_twin

EPS = 1e-6
Draw = Callable[..., Tensor]
Agree = Callable[..., None]


@pytest.mark.parametrize(("shape", "strided"), [((3, 5, 37), False), ((4, 64), True), ((1, 1), False)])
def test_rms_norm(
    dtype: torch.dtype, shape: tuple[int, ...], strided: bool, draw: Draw, agree: Agree
) -> None:
    x, gain = draw(*shape, dtype=dtype, strided=strided), draw(shape[-1], dtype=dtype)
    agree(
        lambda x, gain: rms_norm(x, gain, EPS),
        lambda x, gain: rms_norm_twin(x, None, gain, EPS, False)[0],
        [x, gain],
    )


def test_rms_norm_of_a_sum_gives_the_sum_too(dtype: torch.dtype, draw: Draw, agree: Agree) -> None:
    x, branch, gain = draw(2, 7, 21, dtype=dtype), draw(2, 7, 21, dtype=dtype), draw(21, dtype=dtype)
    agree(
        lambda x, branch, gain: add_rms_norm(x, branch, gain, EPS),
        lambda x, branch, gain: rms_norm_twin(x, branch, gain, EPS, False),
        [x, branch, gain],
    )


def test_crms_norm(dtype: torch.dtype, draw: Draw, agree: Agree) -> None:
    x = draw(5, 33, dtype=dtype)
    agree(
        lambda x: crms_norm(x, EPS), lambda x: rms_norm_twin(x, None, None, EPS, True)[0], [x], tolerance=2.0
    )


def test_every_row_reaches_the_gradient_of_the_gain(draw: Draw, agree: Agree) -> None:
    """More rows than the programs take in one tile each."""
    agree(
        lambda x, gain: rms_norm(x, gain, EPS),
        lambda x, gain: rms_norm_twin(x, None, gain, EPS, False)[0],
        [draw(301, 1000), draw(1000)],
    )


@pytest.mark.parametrize(("shape", "strided"), [((3, 5, 37), False), ((4, 64), True)])
def test_poly_norm(
    dtype: torch.dtype, shape: tuple[int, ...], strided: bool, draw: Draw, agree: Agree
) -> None:
    u = draw(*shape, dtype=dtype, strided=strided)
    agree(poly_norm, poly_norm_twin, [u, draw(3, dtype=dtype), draw(1, dtype=dtype)])


@pytest.mark.parametrize("strided", [False, True])
def test_poly_relu(dtype: torch.dtype, strided: bool, draw: Draw, agree: Agree) -> None:
    u = draw(3, 5, 37, dtype=dtype, strided=strided)
    agree(poly_relu, poly_relu_twin, [u, draw(3, dtype=dtype), draw(1, dtype=dtype)])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gates(dtype: torch.dtype, activation: str, draw: Draw, agree: Agree) -> None:
    packed = draw(5, 66, dtype=dtype, strided=activation == "silu")
    agree(lambda u: gated(u, activation), lambda u: gated_twin(u, activation), [packed])


def test_squared_rectifier(dtype: torch.dtype, draw: Draw, agree: Agree) -> None:
    agree(relu2, lambda u: torch.relu(u).square(), [draw(3, 5, 37, dtype=dtype)])


def test_what_float16_cannot_hold_is_clamped_and_has_no_gradient(draw: Draw) -> None:
    u = draw(4, 8, dtype=torch.float16).abs().add(300.0).requires_grad_()
    ones = torch.ones(3, device=u.device, dtype=u.dtype)
    for y in (relu2(u), poly_relu(u, ones, ones[:1])):
        assert bool((y == LIMIT).all())
        (grad,) = torch.autograd.grad(y.sum(), u)
        assert bool((grad == 0).all())
