import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.rank_statistics import (
    kendall,
    kendall_reference,
    partial_spearman,
    precision_at_top,
    ranks,
    spearman,
    tau_in_strata,
)

LISTS = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=12)


@given(LISTS)
def test_tau_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    x, y = ([float(value) for value in column] for column in zip(*pairs, strict=True))
    expected = kendall_reference(x, y)
    assert kendall(x, y) == (
        pytest.approx(expected) if math.isfinite(expected) else pytest.approx(math.nan, nan_ok=True)
    )


def test_ties_share_their_rank() -> None:
    assert ranks([3.0, 1.0, 3.0, 7.0]).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_spearman_sees_order_alone() -> None:
    x = [1.0, 2.0, 3.0, 10.0]
    assert spearman(x, [math.exp(v) for v in x]) == pytest.approx(1.0)
    assert spearman(x, [-v for v in x]) == pytest.approx(-1.0)
    assert math.isnan(spearman(x, [1.0] * 4))


def test_a_common_cause_is_taken_out() -> None:
    """The textbook formula for one control: (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2))."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=60)
    x, y = z + rng.normal(size=60), z + rng.normal(size=60)
    r_xy, r_xz, r_yz = spearman(x, y), spearman(x, z), spearman(y, z)
    expected = (r_xy - r_xz * r_yz) / math.sqrt((1 - r_xz**2) * (1 - r_yz**2))
    assert partial_spearman(x, y, [z]) == pytest.approx(expected, rel=1e-9)
    assert partial_spearman(x, y, []) == pytest.approx(r_xy)


def test_what_the_control_explains_has_no_partial_correlation() -> None:
    z = [1.0, 5.0, 2.0, 9.0, 4.0]
    assert math.isnan(partial_spearman(z, [2.0, 1.0, 3.0, 5.0, 4.0], [[v**3 for v in z]]))


def test_strata_are_ordered_each_for_itself() -> None:
    x = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
    y = [1.0, 2.0, 3.0, 9.0, 8.0, 7.0]
    mean, each = tau_in_strata(x, y, ["a"] * 3 + ["b"] * 3, least=3)
    assert each == {"a": pytest.approx(1.0), "b": pytest.approx(-1.0)}
    assert mean == pytest.approx(0.0)
    assert math.isnan(tau_in_strata(x, y, list(range(6)))[0])


def test_the_best_tenth_that_is_found() -> None:
    y = [float(value) for value in range(20)]
    assert precision_at_top(y, y) == 1.0
    assert precision_at_top([-value for value in y], y) == 0.0
