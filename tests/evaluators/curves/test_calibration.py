import numpy as np
import pytest
from scipy import stats

from evaluators.curves import Extrapolation, Finished, corrected, correction
from evaluators.curves.calibration import MIN_FINISHED

RNG = np.random.default_rng(0)


def _finished(family: str, shift: float, count: int) -> list[Finished]:
    return [Finished(family, 2.0, 2.0 + shift + 0.02 * float(RNG.normal())) for _ in range(count)]


def test_a_family_with_enough_trainings_has_its_own_correction() -> None:
    finished = _finished("local", -0.1, 10) + _finished("attention", -0.4, 10)
    found = correction(finished, "attention")
    assert found is not None
    assert (found.family, found.trainings) == ("attention", 10)
    assert found.shift == pytest.approx(-0.4, abs=0.03)


def test_the_interval_is_students_for_one_more_training() -> None:
    finished = [Finished("local", 0.0, value) for value in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)]
    found = correction(finished, "local")
    assert found is not None
    half = stats.t.ppf(0.975, 5) * np.std([1, 2, 3, 4, 5, 6], ddof=1) * np.sqrt(7 / 6)
    assert (found.shift, found.half) == pytest.approx((3.5, half))


def test_few_trainings_of_a_family_use_all() -> None:
    finished = _finished("local", -0.1, MIN_FINISHED - 1) + _finished("attention", -0.3, 3)
    found = correction(finished, "local")
    assert found is not None
    assert (found.family, found.trainings) == (None, MIN_FINISHED + 2)


def test_none_finished_leaves_the_extrapolation_as_it_is() -> None:
    raw = Extrapolation(2.0, 1.8, 2.3, {"power": 1.0}, 8, 1000)
    assert correction(_finished("local", 0, MIN_FINISHED - 1), "local") is None
    assert corrected(raw, None) == raw
    found = corrected(raw, correction(_finished("local", -0.1, 8), "local"))
    assert found.value == pytest.approx(1.9, abs=0.03)
    assert found.high - found.value >= 0.3 - 1e-9  # never narrower than the curve's own
