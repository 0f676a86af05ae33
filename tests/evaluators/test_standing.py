"""Standing in a frozen sample: its definition, its ends, and that company does not change it."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.protocol import Measurement
from evaluators.standing import Distribution, SizeCurve, Standings

numbers = st.integers(-5, 5).map(float)


def measured(name: str, value: float) -> Measurement:
    status = "ok" if math.isfinite(value) else "nan"
    return Measurement(name, float(value) if status == "ok" else None, "1", "computed", status=status)  # type: ignore[arg-type]


def by_definition(sample: list[float], score: float) -> float:
    """For a score that stands in the sample."""
    below = sum(other < score for other in sample) + sum(not math.isfinite(other) for other in sample)
    ties = sum(other == score for other in sample)
    share = (below + ties / 2) / len(sample)
    return math.log((len(sample) * share + 1) / (len(sample) + 2))


@given(st.lists(st.one_of(numbers, st.just(math.nan)), min_size=1, max_size=20))
def test_a_member_of_the_sample_stands_where_counting_puts_it(sample: list[float]) -> None:
    distribution = Distribution.of(sample)
    for score in filter(math.isfinite, sample):
        assert distribution.log_p(score) == pytest.approx(by_definition(sample, score))


@given(st.lists(numbers, min_size=1, max_size=20), st.lists(st.floats(-20, 20), min_size=2, max_size=8))
def test_more_is_never_worse_and_beyond_the_ends_strictly_better(
    sample: list[float], scores: list[float]
) -> None:
    distribution = Distribution.of(sample)
    ordered = sorted(set(scores))
    logs = [distribution.log_p(score) for score in ordered]
    assert all(a <= b + 1e-12 for a, b in pairwise(logs))
    assert distribution.log_p(max(sample) + 2.0) > distribution.log_p(max(sample) + 1.0)
    assert distribution.log_p(min(sample) - 2.0) < distribution.log_p(min(sample) - 1.0)


def test_the_ends_go_on_in_interquartile_ranges() -> None:
    distribution = Distribution.of([0.0, 1.0, 2.0, 3.0, 4.0])  # interquartile range 2
    assert distribution.log_p(-4.0) == pytest.approx(math.log(1.5 / 7) - 2.0)
    assert distribution.log_p(8.0) == pytest.approx(math.log(5.5 / 7) + 2.0 / 7)
    assert distribution.log_p(1.5) == pytest.approx(math.log(3.0 / 7))
    assert distribution.log_p(math.nan) == -math.inf
    assert Distribution.of([math.nan]).log_p(3.0) == math.log(0.5)


def test_the_standing_is_the_mean_over_the_proxies_that_an_architecture_has() -> None:
    sample = [{"naswot": measured("naswot", x), "zico": measured("zico", 2 * x)} for x in range(5)]
    standings = Standings.of(sample)
    best, worst = ({"naswot": measured("naswot", x), "zico": measured("zico", 2 * x)} for x in (4, 0))
    assert standings.of_scores(best) == pytest.approx(math.log(5.5 / 7))
    assert standings.of_scores(worst) == pytest.approx(math.log(1.5 / 7))
    half = {"naswot": measured("naswot", 4.0), "zico": measured("zico", 0.0)}
    assert standings.of_scores(half) == pytest.approx(math.log(5.5 / 7) / 2 + math.log(1.5 / 7) / 2)
    broken = {**best, "naswot": measured("naswot", math.nan)}
    assert standings.of_scores(broken) == -math.inf
    impossible = Measurement("naswot", None, "1", "computed", status="unsupported")
    assert standings.of_scores({**best, "naswot": impossible}) == pytest.approx(math.log(5.5 / 7))
    assert standings.of_scores({"naswot": impossible}) == math.log(0.5)
    assert standings.of_scores({"depth": measured("depth", 3.0)}) == math.log(0.5)  # not of the sample


def test_a_residual_is_what_size_does_not_explain() -> None:
    """A proxy that is size has none; one beside size keeps its own part."""
    rng = np.random.default_rng(0)
    params = rng.uniform(1e4, 1e6, 512)
    same = SizeCurve.of(list(np.sqrt(params)), list(params))
    assert max(abs(same.residual(math.sqrt(one), one)) for one in params[:50]) < 1e-9
    noise = rng.normal(0, 0.5, 512)
    mixed = np.log(params) + noise
    curve = SizeCurve.of(list(mixed), list(params))
    residuals = [curve.residual(score, size) for score, size in zip(mixed, params, strict=True)]
    assert np.corrcoef(residuals, noise)[0, 1] > 0.8
    assert abs(np.corrcoef(residuals, np.log(params))[0, 1]) < 0.1
    falling = SizeCurve.of(list(-np.log(params)), list(params))
    assert abs(falling.residual(-math.log(params[0]), params[0])) < 1e-9
