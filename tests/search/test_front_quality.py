"""Distances between fronts, attainment of several runs, fronts under noise."""

import math
import random
from statistics import NormalDist

import moocore
import numpy as np
import pytest

from search.front_quality import (
    DRAWS,
    additive_epsilon,
    attainment_surface,
    igd_plus,
    nondominated_probability,
    nondominated_probability_by_definition,
)
from search.pareto import front
from space.errors import InvalidInputError

POINTS = [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0)]
TARGET = [(1.0, 6.0), (3.0, 3.0), (6.0, 1.0)]


def cloud(count: int, seed: int) -> list[tuple[float, float]]:
    rng = random.Random(seed)
    return [(rng.random(), rng.random()) for _ in range(count)]


def test_distances_of_the_printed_vectors() -> None:
    assert igd_plus(POINTS, TARGET) == 0
    assert additive_epsilon(POINTS, TARGET) == 0
    assert igd_plus([(2.0, 3.0)], [(1.0, 1.0), (2.0, 3.0)]) == pytest.approx(math.sqrt(5) / 2)
    assert additive_epsilon([(2.0, 3.0)], [(1.0, 1.0), (2.0, 3.0)]) == 2


def test_distances_agree_with_moocore() -> None:
    for seed in range(5):
        ours, target = cloud(20, seed), cloud(9, seed + 100)
        assert igd_plus(ours, target) == pytest.approx(moocore.igd_plus(np.array(ours), ref=np.array(target)))
        expected = moocore.epsilon_additive(np.array(ours), ref=np.array(target))
        assert additive_epsilon(ours, target) == pytest.approx(expected)


def test_a_front_falls_short_of_nothing_and_an_empty_one_of_everything() -> None:
    assert (igd_plus(POINTS, []), additive_epsilon(POINTS, [])) == (0.0, -math.inf)
    assert (igd_plus([], POINTS), additive_epsilon([], POINTS)) == (math.inf, math.inf)


def test_a_better_front_is_never_further_away() -> None:
    target = cloud(9, 1)
    ours = cloud(20, 2)
    better = [(x - 0.1, y) for x, y in ours]
    assert igd_plus(better, target) <= igd_plus(ours, target)


def test_the_first_surface_is_the_front_of_all_runs_and_the_last_attained_by_each() -> None:
    runs = [cloud(12, seed) for seed in range(5)]
    together = [point for run in runs for point in run]
    assert attainment_surface(runs, 1) == sorted(together[index] for index in front(together))
    for corner in attainment_surface(runs, 5):
        assert all(any(x <= corner[0] and y <= corner[1] for x, y in run) for run in runs)


@pytest.mark.parametrize("least", [1, 3, 5])
def test_surfaces_agree_with_moocore(least: int) -> None:
    runs = [cloud(12, seed) for seed in range(5)]
    table = np.array([(*point, k + 1) for k, run in enumerate(runs) for point in run])
    found = moocore.eaf(table[:, :2], table[:, 2], percentiles=[100 * least / 5])
    np.testing.assert_allclose(sorted(map(tuple, found[:, :2].tolist())), attainment_surface(runs, least))


@pytest.mark.parametrize("least", [0, 3])
def test_a_share_of_runs_that_does_not_exist_is_refused(least: int) -> None:
    with pytest.raises(InvalidInputError, match="between 1 and the 2 runs"):
        attainment_surface([POINTS, TARGET], least)


def test_probabilities_equal_their_definition() -> None:
    means, deviations = cloud(7, 3), cloud(7, 4)
    fast = nondominated_probability(means, deviations, seed=5)
    assert fast == nondominated_probability_by_definition(means, deviations, seed=5)


def test_without_noise_the_front_is_certain() -> None:
    means = cloud(15, 6)
    found = nondominated_probability(means, [(0.0, 0.0)] * 15)
    assert [index for index, share in enumerate(found) if share == 1.0] == front(means)
    assert set(found) == {0.0, 1.0}


def test_of_two_noisy_points_the_closed_form_holds() -> None:
    found = nondominated_probability([(1.0, 1.0), (1.5, 1.0)], [(0.3, 0.0), (0.4, 0.0)])
    expected = NormalDist().cdf(0.5 / math.hypot(0.3, 0.4))
    tolerance = 4 * math.sqrt(expected * (1 - expected) / DRAWS)
    assert found[0] == pytest.approx(expected, abs=tolerance)
    assert found[1] == pytest.approx(1 - expected, abs=tolerance)
