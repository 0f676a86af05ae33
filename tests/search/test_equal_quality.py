"""Speed-up at equal quality, by hand-computed cases."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.equal_quality import Point, best_speedup, reference_latency, speedup, with_interval

REFERENCES = [Point(-1, 3.0, 0.001), Point(-2, 2.0, 0.004), Point(-3, 2.5, 0.009)]
"""-3 is dominated by -2: the front is -1 and -2."""


@pytest.mark.parametrize(
    ("quality", "latency", "place"),
    [
        (3.0, 0.001, "within"),
        (2.0, 0.004, "within"),
        (2.5, 0.002, "within"),  # half-way in quality is the geometric mean of the latencies
        (2.25, 0.001 * 4**0.75, "within"),
        (9.9, 0.001, "worse"),
        (1.9, 0.004, "better"),
    ],
)
def test_the_reference_latency_is_log_linear_between_adjacent_points(
    quality: float, latency: float, place: str
) -> None:
    found, where = reference_latency(quality, REFERENCES)
    assert found == pytest.approx(latency)
    assert where == place


def test_better_than_every_reference_is_a_lower_bound() -> None:
    found = speedup(Point(7, 1.5, 0.001), REFERENCES).as_json()
    assert found == {
        "value": pytest.approx(4.0),
        "low": None,
        "high": None,
        "trial": 7,
        "lower_bound": True,
        "quality": "better",
    }


def test_one_reference_is_a_front() -> None:
    assert reference_latency(2.0, REFERENCES[1:2]) == (0.004, "within")


def test_the_interval_adds_the_changes_of_the_logarithm_in_quadrature() -> None:
    alone = with_interval(Point(0, 2.5, 0.001, latency_interval=(0.0008, 0.00125)), REFERENCES)
    assert alone.value == pytest.approx(2.0)
    assert alone.low == pytest.approx(1.6)
    assert alone.high == pytest.approx(2.5)
    both = with_interval(Point(0, 2.5, 0.001, (2.25, 2.75), (0.0008, 0.00125)), REFERENCES)
    step = math.hypot(math.log(1.25), 0.25 * math.log(4))
    assert both.low == pytest.approx(2.0 * math.exp(-step))
    assert both.high == pytest.approx(2.0 * math.exp(step))


def test_the_interval_holds_the_uncertainty_of_the_references() -> None:
    references = [Point(-1, 3.0, 0.001), Point(-2, 2.0, 0.004, latency_interval=(0.002, 0.008))]
    found = with_interval(Point(0, 2.5, 0.001), references)
    assert found.low == pytest.approx(2.0 / math.sqrt(2))
    assert found.high == pytest.approx(2.0 * math.sqrt(2))


def test_an_interval_that_reaches_zero_latency_is_mirrored_by_ratio() -> None:
    found = with_interval(Point(0, 2.5, 0.001, latency_interval=(-0.001, 0.002)), REFERENCES)
    assert found.low == pytest.approx(1.0)
    assert found.high == pytest.approx(4.0)


def test_nothing_known_about_spread_gives_no_interval() -> None:
    found = with_interval(Point(0, 2.5, 0.001), REFERENCES)
    assert found.low is None
    assert found.high is None


def test_the_best_speedup_goes_to_the_lower_number_on_a_tie_and_needs_both_sides() -> None:
    points = [Point(4, 2.5, 0.001), Point(3, 2.5, 0.001), Point(5, 2.5, 0.002)]
    best = best_speedup(points, REFERENCES)
    assert best is not None
    assert best.trial == 3
    assert best_speedup([], REFERENCES) is None
    assert best_speedup(points, []) is None


axis = st.floats(0.1, 10.0)
clouds = st.lists(st.tuples(axis, axis), min_size=1, max_size=12)


@given(clouds, axis, axis, axis)
def test_dominating_points_have_at_least_the_speedup(
    cloud: list[tuple[float, float]], quality: float, latency: float, gain: float
) -> None:
    references = [Point(-1 - k, q, s) for k, (q, s) in enumerate(cloud)]
    worse = speedup(Point(0, quality, latency), references).value
    better = speedup(Point(1, quality * gain / (1 + gain), latency), references).value
    assert better >= worse * (1 - 1e-9)


@given(clouds)
def test_no_reference_is_faster_than_the_reference_front(cloud: list[tuple[float, float]]) -> None:
    references = [Point(-1 - k, q, s) for k, (q, s) in enumerate(cloud)]
    assert all(speedup(point, references).value <= 1 + 1e-9 for point in references)
