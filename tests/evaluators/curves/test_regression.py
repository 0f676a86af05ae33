import numpy as np
import pytest
from scipy.optimize import least_squares, lsq_linear

from evaluators.curves import regression
from evaluators.curves.regression import HUBER, regress

RNG = np.random.default_rng(0)
BASIS = np.sort(RNG.random((4, 9)))[:, ::-1].copy()


@pytest.mark.parametrize("floor", [0.0, 1.4])
def test_without_robust_rounds_it_is_bounded_least_squares(
    monkeypatch: pytest.MonkeyPatch, floor: float
) -> None:
    monkeypatch.setattr(regression, "ROUNDS", 0)
    curves = floor + np.abs(RNG.normal(1, 1, (6, 9)))
    fits = regress(curves, BASIS, floor)
    for row, curve in enumerate(curves):
        for shape, basis in enumerate(BASIS):
            matrix = np.stack([np.ones(9), basis], axis=1)
            slow = lsq_linear(matrix, curve, bounds=([floor, 0], [np.inf, np.inf]), tol=1e-14)
            assert fits.squares[row, shape] == pytest.approx(2 * slow.cost, rel=1e-7, abs=1e-10)
            assert fits.end[row, shape] == pytest.approx(slow.x[0], rel=1e-5, abs=1e-5)


def test_an_outlier_moves_it_as_little_as_hubers_loss_does() -> None:
    curve = 1 + 2 * BASIS[0] + 0.01 * RNG.normal(size=9)
    spoiled = curve.copy()
    spoiled[4] += 3
    fits = regress(spoiled[None], BASIS[:1], 0.0)
    residuals = np.abs(spoiled - fits.end[0, 0] - fits.scale[0, 0] * BASIS[0])
    sigma = 1.4826 * float(np.median(residuals))

    def misses(at: np.ndarray) -> np.ndarray:
        return np.asarray(spoiled - at[0] - at[1] * BASIS[0])

    slow = least_squares(misses, [1, 1], loss="huber", f_scale=HUBER * sigma, xtol=1e-14, ftol=1e-14)
    assert (fits.end[0, 0], fits.scale[0, 0]) == pytest.approx(tuple(slow.x), abs=0.02)
    assert (fits.end[0, 0], fits.scale[0, 0]) == pytest.approx((1, 2), abs=0.1)


def test_a_rising_curve_is_taken_as_flat() -> None:
    fits = regress(np.linspace(1, 2, 9)[None], BASIS, 0.0)
    assert (fits.scale == 0).all()
    assert fits.end == pytest.approx(np.full((1, 4), 1.5), abs=0.2)
