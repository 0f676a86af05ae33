import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from dashboards import chart_named, job_charts
from dashboards.charts import SHOWN_ROWS, Chart
from dashboards.job_charts import NAMES
from dashboards.selection import Selection
from search.records import JobRecord, MeasurementRecord, TrialRecord
from space.errors import InvalidInputError

Trials = list[TrialRecord]
Measured = Callable[[TrialRecord], list[MeasurementRecord]]


def test_every_chart_has_a_table_as_wide_as_its_columns(
    job: JobRecord, trials: Trials, references: Trials, measured: Measured
) -> None:
    known = {trial.architecture_id: measured(trial) for trial in trials}
    curves = {trial.training_id: measured(trial) for trial in trials}
    charts = job_charts(job, trials, references, known, curves=curves)
    assert tuple(charts) == NAMES
    for chart in charts.values():
        assert chart.rows
        assert {len(row) for row in chart.rows} == {len(chart.columns)}
        json.dumps([list(row) for row in chart.rows], allow_nan=False)
    assert "predictions are off by less than" in charts["latency"].note


def test_the_table_of_the_front_says_what_the_marks_say(
    job: JobRecord, trials: Trials, references: Trials
) -> None:
    chart = job_charts(job, trials, references)["front"]
    by_label = {row[0]: dict(zip(chart.columns, row, strict=True)) for row in chart.rows}
    for trial in (*trials, *references):
        if "latency_s" not in trial.values:
            assert trial.label not in by_label
            continue
        row = by_label[trial.label]
        assert row["latency (ms)"] == pytest.approx(1e3 * trial.values["latency_s"])
        assert row["latency (ms) obtained"] == trial.kinds["latency_s"]
        assert row["on front"] == ("yes" if trial.on_front else "no")
    flags = [str(row[3]) for row in chart.rows]
    assert flags == sorted(flags, reverse=True)


def test_other_axes_change_figure_and_table_together(
    job: JobRecord, trials: Trials, references: Trials
) -> None:
    chart = job_charts(job, trials, references, None, Selection("params", "latency_s", linear=True))["front"]
    assert {"parameters (M)", "latency (ms)"} <= set(chart.columns)
    layout = chart.figure.to_plotly_json()["layout"]
    assert layout["xaxis"]["title"]["text"] == "parameters (M)"
    assert layout["xaxis"].get("type") is None
    names = [trace["name"] for trace in chart.figure.to_plotly_json()["data"]]
    assert "speed-up at equal quality" not in names
    assert "search front" in names


def test_an_unknown_chart_is_answered_with_the_known_ones(job: JobRecord) -> None:
    with pytest.raises(InvalidInputError, match="front"):
        chart_named(job_charts(job, [], []), "fron")


def test_a_page_shows_the_first_rows_and_says_how_many_more(job: JobRecord) -> None:
    one = job_charts(job, [], [])["funnel"]
    chart = Chart(one.figure, ("a", "b", "c"), [(str(i), i / 3, None) for i in range(SHOWN_ROWS + 7)])
    assert (len(chart.shown), chart.more) == (SHOWN_ROWS, 7)
    assert chart.shown[1] == ["1", "0.33333", "–"]
    assert chart.numeric == [False, True, False]


def test_a_value_without_interval_has_none_in_the_table(job: JobRecord, trials: Trials) -> None:
    bare = [replace(trial, spread={}) for trial in trials]
    assert job_charts(job, bare, [])["front"].rows[0][5] is None
