import ast
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dashboards import trial_page
from dashboards.differences import changes
from dashboards.pages.snippet import onnx_snippet
from dashboards.pages.trial import MAX_CHANGES, measurement_row, number_rows
from dashboards.reasons import front_rival
from search.records import ArtefactRecord, JobRecord, MeasurementRecord, TrialRecord

Trials = list[TrialRecord]
NewExport = Callable[..., ArtefactRecord]


def test_numbers_are_shown_with_spread_and_how_they_were_obtained(job: JobRecord, trials: Trials) -> None:
    front = next(trial for trial in trials if trial.on_front)
    quality, latency, *rest = number_rows(job, front)
    assert (quality.name, latency.name) == ("bits per byte", "latency")
    assert latency.kind == "measured"
    assert latency.cells[0].spread.startswith("±")
    assert {row.kind for row in rest} == {"computed"}


def test_a_finalist_shows_search_final_and_test_values(
    job: JobRecord, trials: Trials, finals: Callable[..., Trials]
) -> None:
    trial = next(one for one in finals(trials) if one.final)
    html = trial_page(job, trial, [], [], trials=trials)
    assert "3 seeds, 150 steps" in html
    assert len(number_rows(job, trial)[0].cells) == 3
    assert number_rows(job, trial)[-1].cells[2].text == "–"


def test_relatives_are_linked_both_ways(job: JobRecord, trials: Trials) -> None:
    child = next(trial for trial in trials if trial.parents)
    (parent,) = child.parents
    link = f'href="/jobs/{job.id}/trials/'
    assert f'{link}{parent}"' in trial_page(job, child, [], [], trials=trials)
    assert f'{link}{child.number}"' in trial_page(job, trials[parent], [], [], trials=trials)


def test_lineage_says_what_changed(job: JobRecord, trials: Trials) -> None:
    child = next(trial for trial in trials if trial.parents)
    parent = trials[child.parents[0]]
    html = trial_page(job, child, [], [], trials=trials)
    for words in changes(parent.architecture, child.architecture)[:MAX_CHANGES]:
        assert f"<li>{words}</li>" in html
    assert f"/jobs/{job.id}/compare?trials={parent.label},{child.label}" in html


def test_a_dominated_trial_leads_to_the_one_that_beats_it(job: JobRecord, trials: Trials) -> None:
    beaten = next(one for one in trials if one.state == "completed" and not one.on_front)
    rival = front_rival(job, beaten, trials)
    assert rival is not None
    assert rival.on_front
    html = trial_page(job, beaten, [], [], trials=trials)
    assert f'compare?trials={beaten.label},{rival.label}">Compare the two' in html


def test_memory_is_shown_without_any_measurement(job: JobRecord, trials: Trials) -> None:
    html = trial_page(job, trials[0], [], [], trials=trials)
    assert 'data-figure="memory"' in html
    assert "have not been measured on the job" in html
    assert 'data-figure="blocks"' not in html


def test_exports_show_state_and_a_download_only_when_ready(
    job: JobRecord, trials: Trials, new_export: NewExport
) -> None:
    trial = next(one for one in trials if one.on_front)
    done, queued = new_export(trial), new_export(trial, id="q" * 32, state="queued", size_bytes=None)
    html = trial_page(job, trial, [], [done, queued], csrf="t")
    assert f'href="/exports/{done.id}/file"' in html
    assert f"/exports/{queued.id}/file" not in html
    assert "1.177 MiB" in html
    assert "max_difference" in html
    assert 'id="exports" data-refresh-every' in html
    assert "data-refresh-every" not in trial_page(job, trial, [], [done])


def test_an_unfinished_trial_cannot_be_exported(job: JobRecord, trials: Trials) -> None:
    waiting = replace(trials[0], state="running", values={})
    html = trial_page(job, waiting, [], [])
    assert "A model can be taken once" in html
    assert f"/trials/{waiting.number}/exports" not in html


def test_measurements_keep_unit_status_and_conditions(
    trials: Trials,
    measured: Callable[[TrialRecord], list[MeasurementRecord]],
    new_measurement: Callable[..., MeasurementRecord],
) -> None:
    latency = measurement_row(measured(trials[0])[-1])
    assert latency.value.endswith(" ms")
    assert latency.conditions == "onnxruntime, threads 1, batch size 1, length 128"
    undefined = measurement_row(new_measurement(trials[0], "zico", None, status="nan"))
    assert (undefined.value, undefined.quantity) == ("nan", "zico")


def test_the_reason_stands_on_the_page(job: JobRecord, trials: Trials) -> None:
    trial = next(one for one in trials if one.on_front)
    assert "On the front: no counted trial" in trial_page(job, trial, [], [], trials=trials)


@pytest.mark.parametrize(
    ("interface", "head"),
    list(
        itertools.product(
            (
                {"input": "bytes"},
                {"input": "values", "context_length": 16, "channels": 3},
                {"input": "image", "channels": 1, "height": 8, "width": 8},
            ),
            ("language", "classification"),
        )
    ),
)
def test_the_snippet_is_five_lines_that_feed_the_right_input(interface: dict[str, Any], head: str) -> None:
    text = onnx_snippet({"interface": interface, "head": {"kind": head}})
    lines = text.splitlines()
    assert len(lines) == 5
    ast.parse(text)
    name, expression = lines[1].split(" = ")
    given = eval(expression, {"np": np})
    wanted = {"bytes": (1, 7), "values": (1, 16, 3), "image": (1, 1, 8, 8)}[interface["input"]]
    assert given.shape == wanted
    assert given.dtype == ("int64" if name == "tokens" else "float32")
