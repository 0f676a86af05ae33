from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dashboards import axis_keys, read_selection
from dashboards.selection import Selection, default_selection
from search.records import JobRecord, TrialRecord
from space.errors import InvalidInputError


def test_a_permalink_leads_back_to_what_it_came_from(job: JobRecord) -> None:
    chosen = Selection("params", "latency_s", linear=True, over="steps")
    assert chosen.query(job) == "?x=params&y=latency_s&over=steps&scale=linear"
    assert read_selection(job, x="params", y="latency_s", over="steps", scale="linear") == chosen
    assert read_selection(job) == default_selection(job)
    assert default_selection(job).query(job) == ""


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("x", "latency", "latency_s"),
        ("y", "param", "params"),
        ("scale", "lin", "linear"),
        ("over", "times", "time"),
    ],
)
def test_what_is_unknown_is_answered_with_what_there_is(
    job: JobRecord, name: str, value: str, meant: str
) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(InvalidInputError, match=meant):
        read_selection(job, **given)


def test_every_quantity_some_trial_has_may_be_an_axis(
    job: JobRecord, new_trial: Callable[..., TrialRecord]
) -> None:
    trial = new_trial(0, 2.5, 1e-3)
    odd = replace(trial, values={**trial.values, "w_pca": 3.0, "macs": 1e6})
    assert axis_keys(job, [trial, odd]) == (
        ["bits_per_byte", "latency_s"],
        ["memory_bytes", "params", "macs"],
    )
