import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.ranking import average_ranks, mean_ranks


@given(st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12))
def test_a_rank_counts_the_larger_and_half_of_the_other_equal_values(values: list[float]) -> None:
    expected = [
        1 + sum(other > value for other in values) + (sum(other == value for other in values) - 1) / 2
        for value in values
    ]
    assert average_ranks(values) == expected


def test_values_that_are_not_finite_share_the_last_ranks() -> None:
    assert average_ranks([math.inf, -5.0, math.nan, -math.inf]) == [3.0, 1.0, 3.0, 3.0]


def test_a_full_table_gives_the_mean_of_its_ranks() -> None:
    assert mean_ranks([[3.0, 1.0, 2.0], [30.0, 20.0, 10.0]]) == [1.0, 2.5, 2.5]


def test_a_gap_leaves_the_other_proxies_to_decide() -> None:
    first, second, third = mean_ranks([[3.0, 2.0, 1.0], [None, 1.0, 2.0]])
    assert first == 1.0
    assert second == pytest.approx((2.0 + 2.75) / 2)
    assert third == pytest.approx((3.0 + 1.25) / 2)


def test_a_member_without_any_proxy_stands_in_the_middle() -> None:
    assert mean_ranks([[2.0, None, 1.0]])[1] == 2.0


def test_nobody_to_rank_gives_nothing() -> None:
    assert mean_ranks([]) == []
