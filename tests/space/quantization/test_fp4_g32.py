"""E2M1 in groups: the grid, the definition, and the properties of the quantizer."""

import pytest
import torch
from torch import Tensor, nn

from space.quantization import Fp4G32, Fp4Linear
from space.quantization.fp4_g32 import GRID, dequantize_fp4, fp4_weight_reference, quantize_fp4


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fp4_linear(weight: Tensor) -> Fp4Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.load_state_dict({"weight": weight})
    module = Fp4G32().convert(linear)
    assert isinstance(module, Fp4Linear)
    return module


def test_the_grid_is_that_of_two_exponent_bits_and_one_mantissa_bit() -> None:
    """Value of code (e, m), bias 1: m / 2 below, (1 + m / 2) 2^(e - 1) else."""
    values = [m / 2 if e == 0 else (1 + m / 2) * 2 ** (e - 1) for e in range(4) for m in range(2)]
    assert list(GRID) == values
    codes = torch.arange(16, dtype=torch.uint8).view(1, 16)
    found = dequantize_fp4(codes, torch.tensor([127], dtype=torch.uint8))
    assert found[0].tolist() == [*GRID, *(-value for value in GRID)]


@pytest.mark.parametrize("inputs", [1, 31, 32, 33, 96])
def test_weights_equal_the_definition_bit_for_bit(inputs: int) -> None:
    weight = random(7, inputs, seed=inputs) * torch.logspace(-6, 6, 7).view(7, 1)
    module = fp4_linear(weight)
    assert torch.equal(module.weight(), fp4_weight_reference(weight))
    x = random(2, 3, inputs)
    torch.testing.assert_close(module(x), x @ fp4_weight_reference(weight).T)


def test_middles_go_to_the_even_mantissa_and_numbers_above_six_to_six() -> None:
    w = torch.tensor([[7.9, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -5.0, -0.2]])
    codes, exponents = quantize_fp4(w)
    assert exponents.tolist() == [127]
    assert dequantize_fp4(codes, exponents)[0].tolist() == [6, 0, 1, 1, 2, 2, 4, 4, -4, 0]
    assert codes[0, -1] == 0  # one zero, without sign


def test_quantizing_twice_changes_nothing() -> None:
    values = dequantize_fp4(*quantize_fp4(random(60, 32)))
    assert torch.equal(dequantize_fp4(*quantize_fp4(values)), values)


def test_error_is_at_most_half_a_step_below_the_largest() -> None:
    w = random(60, 32)
    codes, exponents = quantize_fp4(w)
    scale = torch.ldexp(torch.ones(60), exponents.int() - 127)[:, None]
    size = w.abs() / scale
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0)) * scale
    error = (w - dequantize_fp4(codes, exponents)).abs()
    assert (error <= torch.where(size <= 6, step / 2, step)).all()


def test_zero_constant_and_outlier_groups() -> None:
    w = torch.zeros(3, 32)
    w[1] = -0.75
    w[2, 5], w[2, 1] = 1024.0, 1.0
    values = dequantize_fp4(*quantize_fp4(w))
    assert not values[0].any()
    assert (values[1] == -0.75).all()
    assert values[2].nonzero().tolist() == [[5]]
    assert values[2, 5] == 1024


@pytest.mark.parametrize("inputs", [6, 64, 65])
def test_stored_bytes_equal_the_formula(inputs: int) -> None:
    state = fp4_linear(random(10, inputs)).state_dict()
    stored = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert stored == 10 * inputs * Fp4G32().bits_per_weight(inputs) / 8


def test_survives_its_state_dict() -> None:
    module, other = (fp4_linear(random(4, 40, seed=seed)) for seed in (0, 1))
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.weight(), module.weight())
