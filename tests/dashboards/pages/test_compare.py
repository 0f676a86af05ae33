import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from dashboards import compare_page, curves_chart
from dashboards.theme import SERIES
from search.records import JobRecord, MeasurementRecord, TrialRecord

Trials = list[TrialRecord]
Measured = Callable[[TrialRecord], list[MeasurementRecord]]


@pytest.fixture
def chosen(trials: Trials, references: Trials) -> Trials:
    return [*[trial for trial in trials if trial.on_front][:3], references[0]]


def test_four_trials_stand_side_by_side_with_everything_marked(
    job: JobRecord, chosen: Trials, measured: Measured
) -> None:
    html = compare_page(job, chosen, {one.number: measured(one) for one in chosen}, [])
    assert html.count('class="pf-draw"') == 4
    assert "≠" in html
    assert f'href="/jobs/{job.id}/trials/{chosen[0].number}"' in html
    assert "± " in html
    assert 'class="kind measured"' in html
    (view,) = re.findall(r'id="view">(.*?)</script>', html, flags=re.S)
    traces = json.loads(view)["figures"]["curves"]["data"]
    shown = [trace for trace in traces if trace.get("showlegend")]
    assert [trace["marker"]["symbol"] for trace in shown] == [mark for _, mark, _, _ in SERIES]


def test_addresses_leave_out_and_put_first(job: JobRecord, chosen: Trials) -> None:
    html = compare_page(job, chosen[:2], {}, [])
    first, second = (one.label for one in chosen[:2])
    assert f'href="/jobs/{job.id}/compare?trials={second}"' in html
    assert f'href="/jobs/{job.id}/compare?trials={second},{first}"' in html


def test_a_pick_joins_the_comparison_in_one_click(
    job: JobRecord, new_trial: Callable[..., TrialRecord]
) -> None:
    own, faster = new_trial(0, 2.5, 2e-3), new_trial(9, 2.5, 1e-3)
    html = compare_page(job, [own], {}, [own, faster], limit_ms=1.5)
    assert html.count(f'href="/jobs/{job.id}/compare?trials=0,9"') == 2
    assert "fits 1.5 ms" in html
    assert 'name="trials" value="0"' in html


def test_the_limit_of_the_job_is_the_one_that_is_offered(
    job: JobRecord, new_trial: Callable[..., TrialRecord]
) -> None:
    limited = replace(job, spec={**job.spec, "constraints": {"latency_s": 0.02}})
    html = compare_page(limited, [new_trial(0, 2.5, 2e-3)], {}, [])
    assert 'name="fits_ms" min="0" step="any" value="20"' in html


def test_the_table_of_the_curves_has_the_last_validation_values(
    job: JobRecord, chosen: Trials, measured: Measured
) -> None:
    chart = curves_chart(job, chosen[:2], {one.number: measured(one) for one in chosen[:2]})
    assert chart.columns == ("trial", "seed", "steps", "bits per byte")
    assert [row[2] for row in chart.rows] == [38, 75, 150] * 2


def test_without_curves_the_figure_says_so(job: JobRecord, chosen: Trials) -> None:
    chart = curves_chart(job, chosen, {})
    assert not chart.figure.data
    assert chart.rows == []
