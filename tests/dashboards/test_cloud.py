import numpy as np
import pytest

from dashboards.cloud import CELLS_ACROSS, CELLS_UP, Axis, thinned_plane, thinned_view
from dashboards.selection import Selection

GENERATOR = np.random.default_rng(0)
NUMBERS = GENERATOR.permutation(20_000)
X = np.exp(GENERATOR.normal(0, 1, 20_000))
Y = GENERATOR.normal(2, 0.3, 20_000)


def test_a_small_cloud_is_drawn_whole() -> None:
    found = thinned_view(NUMBERS[:50], Axis(X[:50], True), Axis(Y[:50], False), 50)
    assert sorted(found.numbers) == sorted(NUMBERS[:50].tolist())
    assert found.density is None


def test_no_cell_with_a_trial_is_left_without_a_mark() -> None:
    found = thinned_view(NUMBERS, Axis(X, True), Axis(Y, False), 1200)
    assert len(found.numbers) == 1200
    assert found.total == 20_000
    assert found.density is not None
    counts = np.array(found.density.counts)
    assert counts.shape == (CELLS_UP, CELLS_ACROSS)
    assert counts.sum() == 20_000
    assert (counts > 0).sum() < 1200
    drawn = np.isin(NUMBERS, found.numbers)
    marks, _, _ = np.histogram2d(
        np.log10(X[drawn]), Y[drawn],
        bins=[np.log10(found.density.x_edges), found.density.y_edges],
    )  # fmt: skip
    assert ((marks.T > 0) == (counts > 0)).mean() > 0.999, "up to rounding at the borders of cells"


def test_of_every_cell_the_lowest_number_is_drawn_first() -> None:
    numbers = np.array([5, 3, 9, 4, 8])
    x = np.array([0.0, 0.0, 0.0, 1.0, 1.0])
    found = thinned_view(numbers, Axis(x, False), Axis(np.zeros(5), False), 3)
    assert found.numbers == (3, 4, 5)


def test_a_zoom_shows_what_the_whole_left_out() -> None:
    part = (float(np.quantile(X, 0.4)), float(np.quantile(X, 0.42)), 1.9, 2.1)
    low, high, bottom, top = part
    inside = (low <= X) & (high >= X) & (bottom <= Y) & (top >= Y)
    found = thinned_view(NUMBERS, Axis(X, True, *part[:2]), Axis(Y, False, *part[2:]), 1200)
    assert sorted(found.numbers) == sorted(NUMBERS[inside].tolist())
    assert found.density is None


def test_what_a_logarithm_has_no_place_for_is_not_in_the_view() -> None:
    x = np.array([-1.0, 0.0, np.nan, 2.0])
    numbers = np.arange(4)
    assert thinned_view(numbers, Axis(x, True), Axis(np.ones(4), False), 10).numbers == (3,)
    assert thinned_view(numbers, Axis(x, False), Axis(np.ones(4), False), 10).numbers == (0, 1, 3)


def test_a_cloud_in_one_place_is_one_cell() -> None:
    found = thinned_view(np.arange(9), Axis(np.ones(9), True), Axis(np.ones(9), False), 4)
    assert found.numbers == (0, 1, 2, 3)
    assert found.density is not None
    assert np.array(found.density.counts).max() == 9


@pytest.mark.parametrize("linear", [False, True])
def test_the_view_of_a_page_is_in_shown_units(linear: bool) -> None:
    chosen = Selection("latency_s", "bits_per_byte", linear=linear, zoom=(1.5, 3.0, 0.0, 9.0))
    seconds = np.array([1e-3, 2e-3, 4e-3])
    found = thinned_plane(chosen, np.arange(3), seconds, np.ones(3), np.array([True, True, False]))
    assert found.numbers == (1,)
