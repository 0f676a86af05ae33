import math

import pytest
import torch
from torch import Tensor

from evaluators.passes import GradientMoments, Matrix, Passes
from evaluators.proxies import ZiCo
from evaluators.proxies.zico import zico_reference
from space.errors import InvalidInputError, UnsupportedError


def passes_of(*stacks: Tensor) -> Passes:
    """Passes whose matrices saw these micro-batch gradients [micro, outputs, inputs]."""
    matrices = []
    for index, stack in enumerate(stacks):
        moments = GradientMoments()
        for gradient in stack:
            moments.add(gradient, 1.0 / len(stack))
        value = torch.zeros_like(stack[0])
        matrices.append(Matrix(f"w{index}", "ffn.in", 0, value, moments.mean, moments.mean_abs, moments.std))
    return Passes(tuple(matrices), (), 10, len(stacks[0]) if stacks else 4, 1.0, 0.0)


def test_two_micro_batches_by_hand() -> None:
    """Elements (1, 3): mean 2, deviation 1, ratio 2; (-1, 1): mean magnitude 1, deviation 1, ratio 1."""
    score = ZiCo().score(passes_of(torch.tensor([[[1.0, -1.0]], [[3.0, 1.0]]])))
    assert score.value == pytest.approx(math.log(3))


@pytest.mark.parametrize("micro", [2, 4, 7])
def test_moments_give_the_score_of_the_stacked_gradients(micro: int) -> None:
    g = torch.Generator().manual_seed(micro)
    stacks = [
        torch.randn(micro, *shape, dtype=torch.float64, generator=g) for shape in ((3, 5), (1, 1), (4, 2))
    ]
    assert ZiCo().score(passes_of(*stacks)).value == pytest.approx(zico_reference(stacks), rel=1e-9)


def test_elements_that_do_not_vary_are_left_out() -> None:
    varying = torch.tensor([[[1.0, 7.0]], [[3.0, 7.0]]])
    assert ZiCo().score(passes_of(varying)).value == pytest.approx(math.log(2))
    assert zico_reference([varying]) == pytest.approx(math.log(2))


def test_the_mean_over_matrices_stands_beside_the_sum() -> None:
    varying, still = torch.tensor([[[1.0]], [[3.0]]]), torch.ones(2, 2, 2)
    score = ZiCo().score(passes_of(varying, still, varying))
    assert score.value == pytest.approx(2 * math.log(2))
    assert score.detail == {"mean_over_matrices": pytest.approx(math.log(2)), "matrices_skipped": 1.0}


@pytest.mark.parametrize("gradient", [0.0, 2.5])
def test_gradients_equal_in_every_micro_batch_have_no_score(gradient: float) -> None:
    stack = torch.full((4, 3, 3), gradient)
    assert math.isnan(ZiCo().score(passes_of(stack)).value)
    assert math.isnan(zico_reference([stack]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_f41_a_gradient_that_is_not_finite_gives_no_finite_score(bad: float) -> None:
    stack = torch.tensor([[[1.0, 1.0]], [[3.0, bad]]])
    assert not math.isfinite(ZiCo().score(passes_of(stack)).value)


def test_one_micro_batch_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="1 micro-batch has no deviation; give 2 or more"):
        ZiCo().score(passes_of(torch.ones(1, 2, 2)))


def test_a_model_without_matrices_is_not_supported() -> None:
    with pytest.raises(UnsupportedError, match="no mixer or feed-forward"):
        ZiCo().score(passes_of())
