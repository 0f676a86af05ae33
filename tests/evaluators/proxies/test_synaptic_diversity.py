import math

import pytest
import torch
from torch import Tensor

from evaluators.passes import Matrix, Passes
from evaluators.proxies import SynapticDiversity
from evaluators.spectra import nuclear_norm, nuclear_norm_reference
from space.errors import UnsupportedError


def matrix(value: Tensor, gradient: Tensor, role: str = "mixer.in") -> Matrix:
    return Matrix("w", role, 0, value, gradient, gradient.abs(), torch.zeros_like(gradient))


def passes_of(*matrices: Matrix) -> Passes:
    return Passes(matrices, (), 10, 4, 1.0, 0.0)


@pytest.mark.parametrize("d", [1, 3, 16])
def test_identity_weight_and_identity_gradient_give_d_squared(d: int) -> None:
    score = SynapticDiversity().score(passes_of(matrix(torch.eye(d), torch.eye(d))))
    assert score.value == pytest.approx(d**2)


def test_matrices_add_up_and_feed_forwards_stay_out() -> None:
    one = matrix(torch.eye(2), 3 * torch.eye(2))
    feed_forward = matrix(torch.eye(9), torch.eye(9), role="ffn.in")
    score = SynapticDiversity().score(passes_of(one, one, feed_forward, one))
    assert score.value == pytest.approx(3 * 12.0)
    assert score.detail == {"matrices": 3.0}


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3)])
def test_singular_values_give_the_trace_of_the_root(shape: tuple[int, int]) -> None:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    # squaring halves the digits of the smallest singular values of the definition
    assert nuclear_norm(values) == pytest.approx(nuclear_norm_reference(values), rel=1e-5)


def test_a_weight_that_is_not_finite_gives_nan() -> None:
    bad = torch.full((2, 2), math.inf)
    assert math.isnan(SynapticDiversity().score(passes_of(matrix(bad, torch.eye(2)))).value)


def test_mixers_without_weights_are_not_supported() -> None:
    with pytest.raises(UnsupportedError, match="no mixer of the architecture has a weight matrix"):
        SynapticDiversity().score(passes_of(matrix(torch.eye(2), torch.eye(2), role="ffn.out")))
