"""Dominance, ranks, crowding and the two orders inside a front."""

import itertools
import math
import random

import moocore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.pareto import (
    constrained_dominates,
    constrained_ranks,
    crowding,
    dominates,
    farthest_order,
    front,
    least_contribution_last,
    log_scaled,
    nondominated_ranks,
    nondominated_ranks_by_definition,
    thinned_by_contribution,
    unit,
    violation,
)
from space.errors import InvalidInputError

Cloud = list[tuple[float, ...]]


def cloud(dimensions: int) -> st.SearchStrategy[Cloud]:
    coordinate = st.integers(0, 6).map(float)
    return st.lists(st.tuples(*[coordinate] * dimensions), max_size=25)


clouds = st.integers(2, 4).flatmap(cloud)


@given(clouds)
def test_front_is_minimal_and_covers_every_point(points: Cloud) -> None:
    kept = [points[index] for index in front(points)]
    assert not any(dominates(a, b) for a in kept for b in kept)
    assert all(p in kept or any(dominates(q, p) for q in kept) for p in points)
    assert len(set(kept)) == len(kept)


@given(clouds)
def test_of_equal_points_the_first_stands_on_the_front(points: Cloud) -> None:
    assert all(points.index(points[index]) == index for index in front(points))


@given(clouds)
def test_ranks_equal_their_definition(points: Cloud) -> None:
    assert nondominated_ranks(points) == nondominated_ranks_by_definition(points)


def test_ranks_equal_their_definition_on_random_sets_with_ties() -> None:
    rng = random.Random(0)
    for _ in range(200):
        dimensions = rng.randint(2, 4)
        points = [
            tuple(float(rng.randint(0, 5)) for _ in range(dimensions)) for _ in range(rng.randint(1, 30))
        ]
        assert nondominated_ranks(points) == nondominated_ranks_by_definition(points)


@pytest.mark.parametrize(
    ("a", "a_violation", "b", "b_violation", "wins"),
    [
        ((1, 1), 0, (2, 2), 0, True),
        ((1, 3), 0, (2, 2), 0, False),
        ((2, 2), 0, (2, 2), 0, False),
        ((9, 9), 0, (1, 1), 0.1, True),
        ((1, 1), 0.1, (9, 9), 0, False),
        ((9, 9), 0.1, (1, 1), 0.2, True),
        ((1, 1), 0.1, (9, 9), 0.1, False),
    ],
)
def test_constrained_domination_follows_its_truth_table(
    a: tuple[float, ...], a_violation: float, b: tuple[float, ...], b_violation: float, wins: bool
) -> None:
    assert constrained_dominates(a, a_violation, b, b_violation) is wins


@given(cloud(2).flatmap(lambda points: st.tuples(st.just(points), st.permutations(range(len(points))))))
def test_constrained_ranks_never_contradict_constrained_domination(case: tuple[Cloud, list[int]]) -> None:
    points, order = case
    violations = [0.0 if index % 2 else index % 6 / 10 for index in order]
    ranks = constrained_ranks(points, violations)
    for i, a in enumerate(points):
        for j, b in enumerate(points):
            if constrained_dominates(a, violations[i], b, violations[j]):
                assert ranks[i] < ranks[j]


def test_a_vector_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="not finite"):
        front([(1.0, math.nan)])
    with pytest.raises(InvalidInputError, match="not finite"):
        nondominated_ranks([(1.0, math.inf)])


def test_crowding_is_infinite_at_the_ends_and_a_share_of_the_range_between() -> None:
    assert crowding([(0, 4), (1, 2), (4, 0)]) == [math.inf, 2.0, math.inf]
    assert crowding([]) == []
    assert crowding([(1, 1), (1, 1), (1, 1)]) == [math.inf, 0.0, math.inf]


def test_farthest_order_begins_with_the_best_of_each_objective() -> None:
    points = [(3.0, 1.0), (0.0, 4.0), (1.5, 2.0), (4.0, 0.0), (3.8, 0.1)]
    assert farthest_order(points)[:3] == [1, 3, 2]
    assert sorted(farthest_order(points)) == list(range(5))


@given(clouds)
def test_farthest_order_is_a_permutation_and_each_step_takes_the_farthest(points: Cloud) -> None:
    order = farthest_order(points)
    assert sorted(order) == list(range(len(points)))


def test_the_point_with_the_least_own_volume_leaves_first() -> None:
    points = [(0.0, 1.0), (0.4, 0.5), (0.45, 0.48), (1.0, 0.0)]
    assert least_contribution_last(points, 3) == [0, 1, 3]
    assert least_contribution_last(points, 9) == [0, 1, 2, 3]
    assert least_contribution_last([(1.0, 1.0), (1.0, 1.0)], 1) == [0]


@pytest.mark.parametrize("seed", range(20))
def test_stairs_are_thinned_as_by_definition(seed: int) -> None:
    rng = random.Random(seed)
    x, y = (sorted(rng.random() for _ in range(25)) for _ in range(2))
    points = list(zip(x, reversed(y), strict=True))
    rng.shuffle(points)
    for count in range(26):
        assert least_contribution_last(points, count) == thinned_by_contribution(unit(points), count)


@given(st.lists(st.integers(1, 3), min_size=6, max_size=30))
def test_of_even_stairs_one_with_the_least_volume_leaves(gaps: list[int]) -> None:
    """Equal volumes differ by their rounding, which is not the same everywhere: any of the least may go."""
    x, y = (itertools.accumulate(map(float, gaps[start::2])) for start in (0, 1))
    points = unit([(a, -b) for a, b in zip(x, y, strict=False)])
    for count in range(len(points) - 1, 1, -1):
        before, after = (least_contribution_last(points, size) for size in (count + 1, count))
        (gone,) = set(before) - set(after)
        own = moocore.hv_contributions([points[index] for index in before], ref=[1.1, 1.1])
        assert own[before.index(gone)] <= min(own[1:-1]) + 1e-12


def test_only_logarithmic_objectives_are_logarithms() -> None:
    assert log_scaled((2.5, math.e), ("bits_per_byte", "latency_s")) == (2.5, 1.0)
    with pytest.raises(InvalidInputError, match="latency_s=0 must be greater than 0"):
        log_scaled((2.5, 0.0), ("bits_per_byte", "latency_s"))


def test_violation_is_the_summed_relative_excess() -> None:
    values = {"params": 150.0, "latency_s": 0.01}
    assert violation(values, {"params": 100.0, "latency_s": 0.02, "macs": 1.0}) == pytest.approx(0.5)
