import math

import pytest
import torch
from torch import Tensor

from evaluators.passes import Hidden, Passes
from evaluators.proxies import WPca
from evaluators.proxies.w_pca import components, components_reference
from space.errors import UnsupportedError


def passes_of(*rows: Tensor, num_params: int = 10) -> Passes:
    hidden = tuple(Hidden(layer, own, own.shape[1]) for layer, own in enumerate(rows))
    return Passes((), hidden, num_params, num_micro_batches=4, loss=1.0, wall_s=0.0)


def flat_spectrum(rank: int, rows: int = 400, units: int = 120) -> Tensor:
    """Centred rows whose covariance has `rank` equal eigenvalues and no others."""
    g = torch.Generator().manual_seed(rank)
    raw = torch.randn(rows, rank, dtype=torch.float64, generator=g)
    left, _ = torch.linalg.qr(raw - raw.mean(0))
    right, _ = torch.linalg.qr(torch.randn(units, rank, dtype=torch.float64, generator=g))
    product: Tensor = left @ right.T
    return product


@pytest.mark.parametrize("rank", [1, 7, 50, 100])
def test_equal_eigenvalues_of_rank_r_need_99_percent_of_r(rank: int) -> None:
    assert components(flat_spectrum(rank)) == math.ceil(0.99 * rank)


@pytest.mark.parametrize("shape", [(64, 16), (300, 75), (30, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eigenvalues_count_like_singular_values(shape: tuple[int, int], dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(shape[0])
    rows = torch.randn(*shape, dtype=dtype, generator=g) * torch.logspace(0, -2, shape[1], dtype=dtype) + 3
    assert components(rows) == components_reference(rows)


def test_the_score_is_the_sum_over_layers_times_the_parameters() -> None:
    score = WPca().score(passes_of(flat_spectrum(7), flat_spectrum(50), num_params=1000))
    assert score.value == (7 + 50) * 1000
    assert score.detail == {"s_pca": 57.0, "short_of_rows": 1.0}


def test_an_offset_and_a_scale_of_the_activations_change_nothing() -> None:
    rows = flat_spectrum(50)
    assert components(1e-3 * rows + 5) == components(rows)


def test_enough_rows_are_said_to_be_enough() -> None:
    assert WPca().score(passes_of(flat_spectrum(7, rows=480))).detail["short_of_rows"] == 0.0


@pytest.mark.parametrize(
    "rows", [torch.ones(8, 3), torch.full((8, 3), math.nan), torch.full((8, 3), math.inf)]
)
def test_activations_without_a_spectrum_have_no_score(rows: Tensor) -> None:
    assert math.isnan(WPca().score(passes_of(rows)).value)


def test_a_model_without_feed_forward_is_not_supported() -> None:
    with pytest.raises(UnsupportedError, match="no feed-forward"):
        WPca().score(passes_of())
