"""LLM.int8() against its definition; without outliers it is int8_dynamic, with nothing else it is float."""

import copy

import pytest
import torch
from torch import Tensor, nn

from space.quantization import Format, Int8Dynamic, Int8FrozenLinear, Int8Mixed, Int8MixedLinear
from space.quantization.int8_mixed import THRESHOLD, int8_mixed_reference


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def converted(weight: Tensor, form: Format, peaks: Tensor | None = None) -> nn.Module:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.load_state_dict({"weight": weight})
    return form.convert(linear, peaks)


def with_outliers(x: Tensor, *columns: int) -> Tensor:
    x = x.clamp(-3, 3)
    x[:, list(columns)] *= 30
    x[0, list(columns)] = 2 * THRESHOLD  # whatever was drawn
    return x


@pytest.mark.parametrize("columns", [(), (1,), (0, 6), tuple(range(7))])
def test_frozen_form_equals_the_definition(columns: tuple[int, ...]) -> None:
    x, weight = with_outliers(random(5, 7), *columns), random(4, 7, seed=1)
    module = converted(weight, Int8Mixed(), x.abs().amax(0))
    assert isinstance(module, Int8FrozenLinear)
    assert module.columns.tolist() == list(columns)
    torch.testing.assert_close(module(x), int8_mixed_reference(x, weight), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("columns", [(), (1,), (0, 6), tuple(range(7))])
def test_both_forms_find_the_same_outliers(columns: tuple[int, ...]) -> None:
    """Their difference is the rounding of the weights of these: half a scale per unit of input."""
    x, weight = with_outliers(random(5, 7), *columns), random(4, 7, seed=1)
    found, frozen = (converted(weight, Int8Mixed(), peaks)(x) for peaks in (None, x.abs().amax(0)))
    half_scales = weight.abs().amax(1) / 254
    assert ((found - frozen).abs() <= 2 * half_scales * x.abs().sum(1, keepdim=True) + 1e-5).all()


def test_without_outliers_both_forms_are_int8_dynamic_to_the_bit() -> None:
    x, weight = random(9, 33).clamp(-5.9, 5.9), random(8, 33, seed=1)
    expected = converted(weight, Int8Dynamic())(x)
    assert torch.equal(converted(weight, Int8Mixed())(x), expected)
    assert torch.equal(converted(weight, Int8Mixed(), x.abs().amax(0))(x), expected)


def test_only_outliers_are_a_float_product() -> None:
    x, weight = 100 + random(3, 8).abs(), random(5, 8, seed=1)
    torch.testing.assert_close(converted(weight, Int8Mixed(), x.amax(0))(x), x @ weight.T)
    found = converted(weight, Int8Mixed())
    assert isinstance(found, Int8MixedLinear)
    torch.testing.assert_close(found(x), x @ (found.weight * found.scale).T)


def test_one_large_channel_costs_plain_int8_several_times_the_error() -> None:
    """N(0, 1), d = 256, one channel times 30: 3.2e-2 plain, 4.5e-3 frozen in the source's arithmetic."""
    x, weight = random(64, 256), random(128, 256, seed=1)
    x[:, 17] *= 30
    exact = x @ weight.T

    def error(form: Format, peaks: Tensor | None = None) -> float:
        # ordinary values beyond 6 do not occur at this seed
        return float((converted(weight, form, peaks)(x) - exact).norm() / exact.norm())

    plain, found = error(Int8Dynamic()), error(Int8Mixed())
    frozen = error(Int8Mixed(), x.abs().amax(0))
    assert plain == pytest.approx(3.2e-2, rel=0.15)
    assert frozen == pytest.approx(4.5e-3, rel=0.15)
    assert frozen < found < plain / 3


def test_the_input_stays_as_it_was() -> None:
    x = with_outliers(random(5, 7), 2)
    before = x.clone()
    for peaks in (None, x.abs().amax(0)):
        converted(random(4, 7), Int8Mixed(), peaks)(x)
        assert torch.equal(x, before)


@pytest.mark.parametrize("columns", [None, (), (2, 5)])
def test_stored_bytes_equal_the_formula(columns: tuple[int, ...] | None) -> None:
    peaks = None if columns is None else with_outliers(random(5, 6), *columns).abs().amax(0)
    state = converted(random(10, 6), Int8Mixed(), peaks).state_dict()
    frozen = len(columns or ())
    index = 8 * frozen
    stored = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert stored == 60 * Int8Mixed().bits_per_weight(6, frozen) / 8 + index


def test_survives_state_dict_and_deepcopy() -> None:
    x = with_outliers(random(5, 6), 2)
    peaks = x.abs().amax(0)
    for given in (None, peaks):
        module, other = (converted(random(4, 6, seed=seed), Int8Mixed(), given) for seed in (0, 1))
        other.load_state_dict(module.state_dict())
        assert torch.equal(other(x), module(x))
        assert torch.equal(copy.deepcopy(module)(x), module(x))
