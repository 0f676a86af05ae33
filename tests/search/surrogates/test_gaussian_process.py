"""The Gaussian process: gradient, interpolation, doubt far away."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from search.surrogates.gaussian_process import fit_gaussian_process, kernel, negative_log_posterior


@pytest.mark.parametrize("lengths", [1, 4])
def test_the_gradient_of_the_likelihood_is_exact(lengths: int) -> None:
    generator = np.random.default_rng(0)
    rows, target = generator.normal(size=(12, 4)), generator.normal(size=12)
    at = 0.3 * generator.normal(size=3 + lengths)
    numeric = approx_fprime(at, lambda p: negative_log_posterior(p, rows, target)[0], 1e-6)
    np.testing.assert_allclose(negative_log_posterior(at, rows, target)[1], numeric, rtol=1e-4, atol=1e-4)


def test_covariances_are_those_of_the_formula() -> None:
    a, b, parameters = np.array([[1.0, 2.0]]), np.array([[0.0, -1.0]]), np.log([0.5, 2.0, 0.1, 1.5, 3.0])
    q = np.sqrt(5 * ((1 / 1.5) ** 2 + (3 / 3.0) ** 2))
    expected = 0.25 * (0.0 - 2.0) / 2 + 4.0 * (1 + q + q**2 / 3) * np.exp(-q)
    np.testing.assert_allclose(kernel(a, b, parameters), expected, rtol=1e-12)


def test_a_smooth_function_is_learned_and_far_away_is_doubted() -> None:
    generator = np.random.default_rng(1)
    x = generator.uniform(-2, 2, size=(40, 2))

    def truth(points: np.ndarray) -> np.ndarray:
        return np.asarray(np.sin(points[:, 0]) + points[:, 1])

    process = fit_gaussian_process(x, truth(x))
    inside = generator.uniform(-1.5, 1.5, size=(30, 2))
    mean, deviation = process.predict(inside)
    assert np.abs(mean - truth(inside)).max() < 0.1
    assert process.predict(10 * inside)[1].mean() > 5 * deviation.mean()


def test_equal_labels_are_no_obstacle() -> None:
    x = np.random.default_rng(2).normal(size=(8, 3))
    mean, _ = fit_gaussian_process(x, np.full(8, 2.5)).predict(x)
    np.testing.assert_allclose(mean, 2.5)
