"""Four-bit groups against their definition, and the properties of the quantizer."""

import pytest
import torch
from torch import Tensor, nn

from space.quantization import Int4G32, Int4G64, Int4Linear
from space.quantization.int4 import Int4, dequantize_groups, int4_weight_reference, quantize_groups

FORMS = [Int4G32(), Int4G64()]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def int4_linear(weight: Tensor, form: Int4) -> Int4Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.load_state_dict({"weight": weight})
    module = form.convert(linear)
    assert isinstance(module, Int4Linear)
    return module


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inputs", [1, 7, 32, 33, 64, 100, 160])
def test_weights_equal_the_definition(form: Int4, inputs: int) -> None:
    weight = random(5, inputs, seed=inputs)
    # float32 against Python's float64; the seeds have no number on the edge of two codes
    expected = int4_weight_reference(weight, form.group_size)
    module = int4_linear(weight, form)
    torch.testing.assert_close(module.weight(), expected, rtol=1e-5, atol=1e-6)
    x = random(2, 3, inputs, seed=1)
    torch.testing.assert_close(module(x), x @ expected.T, rtol=1e-4, atol=1e-4)


def test_quantizing_twice_changes_nothing() -> None:
    groups = torch.cat([random(40, 32), torch.tensor([[-0.5, 14.5, 3.2, 7.0] * 8])])  # offset of a half, too
    codes, zeros, scale = quantize_groups(groups)
    again, same_zeros, _ = quantize_groups(dequantize_groups(codes, zeros, scale))
    assert torch.equal(again, codes)
    assert torch.equal(same_zeros, zeros)


def test_error_is_at_most_half_a_scale_and_zero_is_exact() -> None:
    groups = random(50, 32)
    groups[:, 3] = 0.0
    codes, zeros, scale = quantize_groups(groups)
    values = dequantize_groups(codes, zeros, scale)
    assert ((groups - values).abs() <= scale[:, None] * (0.5 + 1e-5)).all()
    assert not values[:, 3].any()


def test_zero_constant_one_sided_and_outlier_groups() -> None:
    groups = torch.zeros(5, 8)
    groups[1] = 0.3
    groups[2] = -0.3
    groups[3] = torch.arange(8.0) + 100
    groups[4, 5], groups[4, 1] = 1000.0, 1.0
    codes, zeros, scale = quantize_groups(groups)
    values = dequantize_groups(codes, zeros, scale)
    assert not values[0].any()
    assert scale[0] == 1.0
    torch.testing.assert_close(values[1:3], groups[1:3])
    assert (zeros == torch.tensor([0, 0, 15, 0, 0])).all()
    assert values[4].tolist() == pytest.approx([0, 0, 0, 0, 0, 1000.0, 0, 0])


def test_one_group_over_all_inputs_is_one_scale_per_output() -> None:
    weight = random(6, 32)
    module = int4_linear(weight, Int4G32())
    codes, zeros, scale = quantize_groups(weight)
    assert torch.equal(module.weight(), dequantize_groups(codes, zeros, scale))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inputs", [6, 64, 65, 130])
def test_stored_bytes_equal_the_formula(form: Int4, inputs: int) -> None:
    state = int4_linear(random(10, inputs), form).state_dict()
    stored = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert stored == 10 * inputs * form.bits_per_weight(inputs) / 8


def test_survives_its_state_dict() -> None:
    module, other = (int4_linear(random(4, 40, seed=seed), Int4G32()) for seed in (0, 1))
    other.load_state_dict(module.state_dict())
    assert torch.equal(other.weight(), module.weight())
