"""The integer form against its definition, and the properties of the quantizer."""

import copy

import pytest
import torch
from torch import Tensor, nn

from space.quantization.int8_dynamic import Int8Dynamic, Int8Linear, int8_linear_reference, quantize_rows


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def int8_linear(weight: Tensor) -> nn.Module:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.load_state_dict({"weight": weight})
    return Int8Dynamic().convert(linear)


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (1, 7, 5), (3, 16, 2), (33, 65, 9)])
def test_integer_form_equals_the_definition(rows: int, inputs: int, outputs: int) -> None:
    x, weight = random(rows, inputs), random(outputs, inputs, seed=1)
    # float32 scales against Python's float64: a rounding of an integer near a half may fall the other way
    expected = int8_linear_reference(x, weight)
    torch.testing.assert_close(int8_linear(weight)(x), expected, rtol=1e-5, atol=1e-5)


def test_quantizing_twice_changes_nothing() -> None:
    integers, scale = quantize_rows(random(20, 33))
    again, _ = quantize_rows(integers * scale)
    assert torch.equal(again, integers)


def test_error_is_at_most_half_a_scale() -> None:
    x = random(20, 33)
    integers, scale = quantize_rows(x)
    assert ((x - integers * scale).abs() <= scale * (0.5 + 1e-5)).all()
    assert integers.abs().max() <= 127


def test_zero_constant_and_outlier_rows() -> None:
    x = torch.zeros(3, 8)
    x[1] = 0.3
    x[2, 5] = 1000.0
    x[2, 1] = 1.0
    integers, scale = quantize_rows(x)
    assert scale[0] == 1.0
    assert not integers[0].any()
    assert (integers[1] == 127).all()
    assert integers[2].tolist() == [0, 0, 0, 0, 0, 127, 0, 0]


def test_zero_input_gives_zero_and_any_leading_axes_work() -> None:
    module = int8_linear(random(4, 6))
    assert torch.equal(module(torch.zeros(2, 3, 6)), torch.zeros(2, 3, 4))


def test_survives_state_dict_and_deepcopy() -> None:
    module, other = int8_linear(random(4, 6)), int8_linear(random(4, 6, seed=1))
    x = random(5, 6, seed=2)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), module(x))
    assert torch.equal(copy.deepcopy(module)(x), module(x))


def test_stored_bytes_equal_the_formula() -> None:
    module = int8_linear(random(10, 6))
    assert isinstance(module, Int8Linear)
    stored = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    assert stored == 60 * Int8Dynamic().bits_per_weight(6) / 8
