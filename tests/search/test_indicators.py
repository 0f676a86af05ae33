"""Hypervolume, the fixed scale, the speed-up of a job and the suggested points."""

import datetime as dt
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.indicators import Scale, counted, hypervolume, hypervolume_2d, indicators
from search.records import Final, Spread, TrialRecord
from search.suggestions import pick, suggestions
from space.errors import InvalidInputError

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
KEYS = ("bits_per_byte", "latency_s")


def trial(number: int, quality: float, latency_s: float, **changes: Any) -> TrialRecord:
    """A completed, measured trial; a reference when the number is negative."""
    fields: dict[str, Any] = {
        "job_id": "j",
        "number": number,
        "origin": "reference" if number < 0 else "random",
        "parents": (),
        "note": "",
        "asked_after": 0,
        "architecture_id": f"a{number}",
        "training_id": f"t{number}",
        "architecture": {"layers": [{"number_format": changes.pop("number_format", "fp32")}]},
        "state": "completed",
        "reason": None,
        "message": None,
        "attempt": 1,
        "rung": 1,
        "steps": 100,
        "values": {"bits_per_byte": quality, "latency_s": latency_s},
        "spread": {},
        "kinds": {"bits_per_byte": "measured", "latency_s": "measured"},
        "flags": (),
        "final": None,
        "on_front": False,
        "created_at": START,
        "ended_at": START + dt.timedelta(seconds=number),
    }
    return TrialRecord(**{**fields, **changes})


def final(quality: float, latency_s: float) -> Final:
    values = {"bits_per_byte": quality, "latency_s": latency_s}
    return Final(3, 2000, values, {"bits_per_byte": Spread(quality - 0.1, quality + 0.1, 3)}, test={})


REFERENCES = [
    trial(-1, 3.0, 0.001),
    trial(-2, 2.0, 0.004),
    trial(-3, 2.2, 0.002, number_format="int8_dynamic"),
]
TRIALS = [trial(0, 3.2, 0.0006), trial(1, 2.4, 0.001), trial(2, 1.9, 0.002), trial(3, 2.5, 0.003)]


def test_the_hypervolume_of_the_two_dimensional_vector() -> None:
    points = [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0)]
    assert hypervolume(points, (6, 6)) == hypervolume_2d(points, (6, 6)) == 17
    assert hypervolume([*points, (5, 5)], (6, 6)) == 17
    assert hypervolume([*points, (7, 0)], (6, 6)) == 17
    for index, own in enumerate((1, 4, 4)):
        assert hypervolume([p for k, p in enumerate(points) if k != index], (6, 6)) == 17 - own


def test_the_hypervolume_of_the_three_dimensional_vector() -> None:
    points = [(1, 4, 3), (2, 2, 2), (3, 1, 4), (4, 3, 1), (2, 5, 5)]
    assert hypervolume(points, (6, 6, 6)) == 82


@pytest.mark.parametrize(("rows", "volume"), [(1000, 0.7653675318625592), (100, 0.7059282748715837)])
def test_the_hypervolume_of_the_random_vector(rows: int, volume: float) -> None:
    points = np.random.RandomState(0).rand(1000, 3)
    points = 1 - points / np.linalg.norm(points, axis=1, keepdims=True)
    assert hypervolume(points[:rows].tolist(), (1.1, 1.1, 1.1)) == pytest.approx(volume, abs=1e-12)


coordinates = st.integers(0, 12).map(float)
clouds = st.lists(st.tuples(coordinates, coordinates), max_size=20)


@given(clouds, st.tuples(coordinates, coordinates))
def test_hypervolume_equals_its_definition_and_only_grows(
    cloud: list[tuple[float, float]], more: tuple[float, float]
) -> None:
    volume = hypervolume(cloud, (10, 10))
    assert volume == pytest.approx(hypervolume_2d(cloud, (10, 10)))
    assert hypervolume(cloud[::-1] + cloud, (10, 10)) == pytest.approx(volume)
    assert hypervolume([*cloud, more], (10, 10)) >= volume - 1e-9


def test_the_scale_puts_the_references_between_zero_and_one() -> None:
    scale = Scale.of(REFERENCES, KEYS)
    assert scale is not None
    assert scale.normalised({"bits_per_byte": 2.0, "latency_s": 0.004}) == pytest.approx((0, 1))
    assert scale.normalised({"bits_per_byte": 2.5, "latency_s": 0.002}) == pytest.approx((0.5, 0.5))
    assert scale.reference_point == pytest.approx((3.1, math.log(0.001) + 1.1 * math.log(4)))


def test_no_reference_is_dropped_by_the_reference_point() -> None:
    scale = Scale.of(REFERENCES, KEYS)
    assert scale is not None
    for one in REFERENCES:
        assert scale.hypervolume([one.values]) > 0


def test_equal_references_still_make_a_scale() -> None:
    scale = Scale.of([REFERENCES[0]], KEYS)
    assert scale is not None
    assert scale.normalised(REFERENCES[0].values) == (0, 0)
    assert scale.hypervolume([REFERENCES[0].values]) == pytest.approx(1.21)
    assert Scale.of([], KEYS) is None


def test_only_completed_measured_and_feasible_trials_count() -> None:
    rows = [
        trial(0, 2.0, 0.001),
        trial(1, 2.0, 0.001, state="running"),
        trial(2, 2.0, 0.001, kinds={"latency_s": "predicted"}),
        trial(3, 2.0, 0.001, flags=("infeasible",)),
        trial(4, 2.0, 0.001, values={"latency_s": 0.001}),
    ]
    assert [one.number for one in counted(rows, KEYS)] == [0]


def test_the_indicators_of_a_job_in_the_search_stage() -> None:
    found = indicators(TRIALS, REFERENCES, KEYS)
    assert json.loads(json.dumps(found)) == found
    assert (found["schema_version"], found["stage"]) == (1, "search")
    # u of the references: (1, 0), (0, 1), (.2, .5); staircase under (1.1, 1.1)
    assert found["reference_hypervolume"] == pytest.approx(0.1 * 1.1 + 0.8 * 0.6 + 0.2 * 0.1)
    # u of the front: (.4, 0), (-.1, .5); trial 0 lies beyond the reference point, trial 3 is dominated
    assert found["hypervolume"] == pytest.approx(0.7 * 1.1 + 0.5 * 0.6)
    assert found["hypervolume_gain"] == pytest.approx(
        found["hypervolume"] / found["reference_hypervolume"] - 1
    )
    assert [count for count, _ in found["hypervolume_history"]] == [1, 2, 3, 4]
    assert found["hypervolume_history"][-1][1] == pytest.approx(found["hypervolume"])
    best = found["speedup_at_equal_quality"]
    # trial 2 is better than the best reference (4 ms); between the fp32 ones 2.4 bits take 4 ** 0.6 ms
    assert (best["trial"], best["quality"], best["lower_bound"]) == (2, "better", True)
    assert best["value"] == pytest.approx(2.0)
    assert best["against_fp32"]["value"] == pytest.approx(4**0.6)
    assert best["against_fp32"]["trial"] == 1
    assert best["against_int8"]["value"] == pytest.approx(1.0)
    assert (best["against_int8"]["trial"], best["against_int8"]["quality"]) == (2, "better")


def test_a_point_worse_than_every_reference_is_no_headline() -> None:
    best = indicators([trial(0, 3.2, 0.0001), *TRIALS[1:]], REFERENCES, KEYS)["speedup_at_equal_quality"]
    assert best["trial"] == 2
    assert (best["including_worse"]["trial"], best["including_worse"]["quality"]) == (0, "worse")


def test_only_worse_points_give_a_figure_that_says_so() -> None:
    best = indicators([trial(0, 3.2, 0.0001)], REFERENCES, KEYS)["speedup_at_equal_quality"]
    assert (best["trial"], best["quality"]) == (0, "worse")


def test_finalists_are_compared_with_references_of_the_same_budget_only() -> None:
    rows = [TRIALS[0], trial(1, 2.4, 0.001, final=final(1.8, 0.001)), TRIALS[2]]
    references = [REFERENCES[0], trial(-2, 2.0, 0.004, final=final(1.7, 0.004))]
    found = indicators(rows, references, KEYS)
    assert found["stage"] == "final"
    best = found["speedup_at_equal_quality"]
    assert (best["trial"], best["stage"], best["quality"]) == (1, "final", "worse")
    assert best["value"] == pytest.approx(4.0)
    assert best["against_int8"] is None
    assert found["speedup_at_equal_quality_search"]["stage"] == "search"
    same = indicators([one for one in rows if not one.final], references, KEYS)
    assert found["scale"] == same["scale"]


def test_a_job_with_nothing_yet_states_nothing() -> None:
    found = indicators([], [], KEYS)
    assert found["hypervolume"] is None
    assert found["speedup_at_equal_quality"] is None
    assert found["suggestions"] == []
    only_references = indicators([], REFERENCES, KEYS)
    assert only_references["hypervolume"] == 0
    assert only_references["hypervolume_gain"] is None  # nothing found yet is no loss of everything


def test_the_history_follows_completion_not_number() -> None:
    late = [trial(0, 1.9, 0.0005, ended_at=START + dt.timedelta(seconds=50)), TRIALS[1]]
    history = indicators(late, REFERENCES, KEYS)["hypervolume_history"]
    assert [count for count, _ in history] == [1, 2]
    assert history[0][1] == pytest.approx(0.7 * 1.1)


def test_more_than_two_objectives_work() -> None:
    keys = (*KEYS, "params")
    rows = [
        trial(k, q, s, values={"bits_per_byte": q, "latency_s": s, "params": p})
        for k, (q, s, p) in enumerate([(2.0, 0.002, 1e6), (2.5, 0.001, 2e6), (3.0, 0.003, 1e5)])
    ]
    found = indicators(rows, rows, keys)
    assert found["hypervolume_gain"] == pytest.approx(0)
    assert [item["trial"] for item in found["suggestions"]] == [0, 1]


def test_the_knee_is_suggested_first_and_at_most_three_points_are() -> None:
    best = [trial(0, 3.0, 0.001), trial(1, 2.1, 0.0012), trial(2, 2.05, 0.006), trial(3, 2.0, 0.008)]
    found = suggestions(best, KEYS)
    assert found[0]["trial"] == 1
    assert found[0]["kind"] == "knee"
    assert len(found) == 3
    assert len({item["trial"] for item in found}) == 3
    assert all(item["reason"] for item in found)


def test_of_equally_bent_points_the_faster_one_is_the_knee() -> None:
    best = [trial(0, 3.0, 0.001), trial(1, 2.0, 0.01)]
    assert suggestions(best, KEYS)[0]["trial"] == 0
    assert pick(best, KEYS, "knee").number == 0


def test_picks_by_name() -> None:
    best = [trial(0, 3.0, 0.001), trial(1, 2.1, 0.0012), trial(2, 2.0, 0.008)]
    assert [pick(best, KEYS, which).number for which in ("fastest", "knee", "most-accurate")] == [0, 1, 2]
    with pytest.raises(InvalidInputError, match="did you mean 'fastest'"):
        pick(best, KEYS, "fastst")
    with pytest.raises(InvalidInputError, match="front is empty"):
        pick([], KEYS, "knee")


def test_the_front_is_compared_with_the_references_front() -> None:
    found = indicators([*TRIALS, trial(4, 1.8, 0.0005)], REFERENCES, KEYS)
    assert found["igd_plus"] == 0
    assert found["additive_epsilon"] < 0
    worse = indicators([trial(0, 3.5, 0.01)], REFERENCES, KEYS)
    assert worse["igd_plus"] > 0
    assert worse["additive_epsilon"] > 0


def test_members_with_wide_intervals_may_leave_the_front() -> None:
    sure = indicators([trial(0, 2.0, 0.001), trial(1, 1.9, 0.002)], REFERENCES, KEYS)
    assert sure["nondominated_probability"] == {"0": 1.0, "1": 1.0}
    wide = {"bits_per_byte": Spread(1.0, 2.8, 3)}
    found = indicators([trial(0, 2.0, 0.001, spread=wide), trial(1, 1.9, 0.002)], REFERENCES, KEYS)
    assert found["nondominated_probability"]["0"] == 1.0
    assert 0.3 < found["nondominated_probability"]["1"] < 0.7
