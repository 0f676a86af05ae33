"""The line and its closed-form leave-one-out residuals."""

import numpy as np

from search.surrogates.ridge import PENALTIES, fit_ridge, leave_one_out_by_definition


def rows(count: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, columns))
    return x, x[:, 0] - 0.5 * x[:, 1] + 0.1 * generator.normal(size=count)


def test_the_noise_is_the_leave_one_out_error_and_the_penalty_its_best() -> None:
    x, y = rows(15, 4)
    errors = [np.sqrt(np.mean(leave_one_out_by_definition(x, y, penalty) ** 2)) for penalty in PENALTIES]
    line = fit_ridge(x, y)
    assert line.penalty == PENALTIES[int(np.argmin(errors))]
    np.testing.assert_allclose(line.noise, min(errors), rtol=1e-9)


def test_more_columns_than_rows_are_no_obstacle_and_constant_ones_have_no_weight() -> None:
    x, y = rows(10, 30)
    x[:, 7] = 3.0
    line = fit_ridge(x, y)
    assert abs(line.weights[7]) < 1e-12
    mean, deviation = line.predict(x)
    assert np.isfinite(mean).all()
    assert (deviation > 0).all()


def test_nothing_is_less_certain_than_knowing_nothing() -> None:
    x, y = rows(12, 5)
    line = fit_ridge(x, y)
    _, deviation = line.predict(x + 1e6)
    assert (deviation <= max(y.std(), line.noise)).all()
