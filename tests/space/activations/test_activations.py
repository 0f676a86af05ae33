"""Activations by closed-form values, trainable ones against their definitions."""

import math
from collections.abc import Callable, Mapping
from typing import get_args

import pytest
import torch

from space.activations import (
    ActivationName,
    GateActivation,
    HiddenActivation,
    activation_params,
    build_activation,
)
from space.activations.polynorm import polynorm_reference
from space.activations.polyrelu import polyrelu_reference
from space.roles import HasRoles

NAMES: tuple[ActivationName, ...] = get_args(ActivationName)
TRAINABLE: tuple[ActivationName, ...] = ("polyrelu", "polynorm")
POINTS = [-30.0, -3.0, -0.5, 0.0, 0.5, 2.0, 30.0]
DEFINITIONS: Mapping[str, Callable[[float], float]] = {
    "relu": lambda u: max(u, 0.0),
    "relu2": lambda u: max(u, 0.0) ** 2,
    "silu": lambda u: u / (1.0 + math.exp(-u)),
    "gelu": lambda u: u * 0.5 * (1.0 + math.erf(u / math.sqrt(2.0))),
    "gelu_tanh": lambda u: u * 0.5 * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (u + 0.044715 * u**3))),
    "sigmoid": lambda u: 1.0 / (1.0 + math.exp(-u)),
    "identity": lambda u: u,
    "polyrelu": lambda u: (max(u, 0.0) + max(u, 0.0) ** 2 + max(u, 0.0) ** 3) / 3,
    "polynorm": lambda u: sum(
        u**power / math.sqrt(sum(v ** (2 * power) for v in POINTS) / len(POINTS) + 1e-12) / 3
        for power in (1, 2, 3)
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_values_equal_the_closed_form_and_gradients_are_finite(name: ActivationName) -> None:
    u = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    values = build_activation(name).double()(u)
    expected = torch.tensor([DEFINITIONS[name](point) for point in POINTS], dtype=torch.float64)
    # a scale of 1/3 is rounded to float32 before the module is made wide
    tolerance = 1e-7 if name in TRAINABLE else 1e-12
    torch.testing.assert_close(values, expected, rtol=tolerance, atol=1e-12)
    (gradient,) = torch.autograd.grad(values.sum(), u)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_at_every_scale_and_at_zero(name: ActivationName) -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (0.0, 1e-3, 1.0, 1e3):
        u = (scale * torch.randn(3, 8, generator=generator)).requires_grad_()
        (gradient,) = torch.autograd.grad(build_activation(name)(u).sum(), u)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", TRAINABLE)
def test_polynomials_equal_their_definitions_in_values_and_gradients(name: ActivationName) -> None:
    module = build_activation(name).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    u = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    scales, bias = module.get_parameter("scales"), module.get_parameter("bias")
    reference = polyrelu_reference if name == "polyrelu" else polynorm_reference
    fast, slow = module(u), reference(u, scales, bias)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    inputs = [u, scales, bias]
    for a, b in zip(*(torch.autograd.grad((y**2).sum(), inputs) for y in (fast, slow)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_polyrelu_of_degree_one_is_the_rectifier() -> None:
    module = build_activation("polyrelu").double()
    with torch.no_grad():
        module.get_parameter("scales").copy_(torch.tensor([1.0, 0.0, 0.0]))
    u = torch.tensor(POINTS, dtype=torch.float64)
    assert torch.equal(module(u), torch.relu(u))


def test_polynorm_does_not_see_the_size_of_its_input() -> None:
    module = build_activation("polynorm").double()
    u = torch.randn(4, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(module(50 * u), module(u), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_counted_parameters_equal_the_formula_and_have_a_role(name: ActivationName) -> None:
    module = build_activation(name)
    parameters = dict(module.named_parameters())
    assert sum(parameter.numel() for parameter in parameters.values()) == activation_params(name)
    roles = module.parameter_roles() if isinstance(module, HasRoles) else {}
    assert set(roles) == set(parameters)
    assert {role.role for role in roles.values()} <= {"ffn.in"}


@pytest.mark.parametrize("name", ["relu2", "polyrelu", "polynorm"])
def test_powers_do_not_overflow_in_half_precision(name: ActivationName) -> None:
    large = torch.tensor([1000.0, -3.0], dtype=torch.float16)
    values = build_activation(name).half()(large)
    assert values.dtype == torch.float16
    assert torch.isfinite(values).all()
    assert torch.isfinite(build_activation(name).bfloat16()(large.bfloat16())).all()


def test_the_two_lists_of_places_make_up_the_closed_list() -> None:
    assert {*get_args(HiddenActivation), *get_args(GateActivation)} == set(NAMES)
