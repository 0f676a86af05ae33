import doctest
from collections.abc import Callable
from dataclasses import replace

import pytest

from dashboards import exploring
from dashboards.exploring import MAX_NAMES, lines, read_filters
from search.records import JobRecord, TrialRecord
from space.errors import InvalidInputError

Trials = list[TrialRecord]


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(exploring).failed == 0


def test_dimensions_are_where_trials_differ_and_the_objectives(job: JobRecord, trials: Trials) -> None:
    dimensions, rows = lines(job, trials)
    keys = [one.key for one in dimensions]
    assert keys[-2:] == ["latency_s", "bits_per_byte"]
    assert {"num_layers", "d_model", "mixer", "number_format", "params"} <= set(keys)
    assert "memory_bytes" not in keys, "it is the same in all of them"
    assert "feed_forward" not in keys
    assert [row.trial.number for row in rows] == [trial.number for trial in trials]
    for row in rows:
        value = row.trial.values.get("latency_s")
        assert row.values[-2] == (None if value is None else 1e3 * value)


def test_filters_are_read_from_a_permalink_and_admit(job: JobRecord, trials: Trials) -> None:
    dimensions, rows = lines(job, trials)
    query = [("max.latency_s", "0.5"), ("in.number_format", "int8"), ("min.d_model", ""), ("x", "params")]
    filters = read_filters(dimensions, query)
    admitted = [row.trial.number for row in rows if filters.admits(dimensions, row)]
    expected = [
        trial.number
        for trial in trials
        if trial.values.get("latency_s", 9.0) <= 0.5e-3
        and trial.architecture["layers"][0]["number_format"] == "int8_dynamic"
    ]
    assert admitted == expected != []


def test_what_is_unknown_passes_no_filter(job: JobRecord, trials: Trials) -> None:
    dimensions, rows = lines(job, trials)
    filters = read_filters(dimensions, [("min.latency_s", "0")])
    assert not any(filters.admits(dimensions, row) for row in rows if "latency_s" not in row.trial.values)


@pytest.mark.parametrize("field", [("min.speed", "1"), ("max.latency_s", "fast"), ("min.latency_s", "nan")])
def test_what_is_no_filter_is_refused(job: JobRecord, trials: Trials, field: tuple[str, str]) -> None:
    with pytest.raises(InvalidInputError):
        read_filters(lines(job, trials)[0], [field])


def test_names_nobody_knows_are_an_axis_until_there_are_too_many(
    job: JobRecord, new_trial: Callable[..., TrialRecord]
) -> None:
    def named(number: int) -> TrialRecord:
        trial = new_trial(number, 2.5, 1e-3)
        layer = {
            **trial.architecture["layers"][0],
            "mixer": {"kind": f"new_{number}"},
            "feed_forward": {"kind": "none"},
        }
        return replace(trial, architecture={**trial.architecture, "layers": [layer]})

    few, _ = lines(job, [named(number) for number in range(3)])
    assert next(one for one in few if one.key == "mixer").names == ("new_0", "new_1", "new_2")
    many, _ = lines(job, [named(number) for number in range(MAX_NAMES + 1)])
    assert "mixer" not in [one.key for one in many]
