"""Activations by closed-form values."""

import math
from typing import get_args

import pytest
import torch

from space.activations import ActivationName, build_activation

NAMES: tuple[ActivationName, ...] = get_args(ActivationName)
DEFINITIONS = {
    "relu": lambda u: max(u, 0.0),
    "relu2": lambda u: max(u, 0.0) ** 2,
    "silu": lambda u: u / (1.0 + math.exp(-u)),
    "gelu": lambda u: u * 0.5 * (1.0 + math.erf(u / math.sqrt(2.0))),
}


@pytest.mark.parametrize("name", NAMES)
def test_values_equal_the_closed_form_and_gradients_are_finite(name: ActivationName) -> None:
    points = [-30.0, -3.0, -0.5, 0.0, 0.5, 2.0, 30.0]
    u = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    values = build_activation(name)(u)
    expected = torch.tensor([DEFINITIONS[name](point) for point in points], dtype=torch.float64)
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(values.sum(), u)
    assert torch.isfinite(gradient).all()


def test_the_square_does_not_overflow_in_half_precision() -> None:
    large = torch.tensor([1000.0], dtype=torch.float16)
    assert torch.isfinite(build_activation("relu2")(large)).all()
