import re
from collections.abc import Callable
from dataclasses import replace

from dashboards import plotly_bundle, report_html
from dashboards.report import obtained
from dashboards.summary import conditions
from search.records import JobRecord, MeasurementRecord, TrialRecord

Trials = list[TrialRecord]


def without_plotly(html: str) -> str:
    return html.replace(plotly_bundle().read_text(encoding="utf-8"), "")


def test_the_report_needs_no_network(job: JobRecord, trials: Trials, references: Trials) -> None:
    html = report_html(job, trials, references)
    assert plotly_bundle().read_text(encoding="utf-8") in html
    rest = without_plotly(html)
    assert re.findall(r'(?:src|href)="([^"#]+)"', rest) == ["data:,"]
    assert "url(" not in rest
    assert "@import" not in rest


def test_it_is_headed_a_demonstration_below_a_thousand_steps(
    job: JobRecord, trials: Trials, references: Trials, finals: Callable[..., Trials]
) -> None:
    short = report_html(job, finals(trials, 3, 150), references)
    assert "<h1>Demonstration, not a claim: a small code model</h1>" in short
    long = {**job.spec, "finalists": {"count": 3, "seeds": 3, "steps": 2000}}
    claim = report_html(replace(job, spec=long), finals(trials, 3, 2000), references)
    assert "<h1>a small code model</h1>" in claim
    assert "Demonstration, not a claim" not in without_plotly(claim)


def test_nothing_is_said_to_be_trained_where_nothing_was(job: JobRecord) -> None:
    said = dict(obtained(replace(job, objectives=("proxy_score", "latency_s"))))
    assert "nothing was trained" in said["proxy score"]
    assert not {"test part", "speed-up at equal quality"} & set(said)
    rows = dict(conditions(replace(job, objectives=("proxy_score", "latency_s"))))
    assert rows["training"] == "none"
    assert "training of a finalist" not in rows
    assert "training of a finalist" in dict(conditions(job))


def test_it_holds_front_references_drawings_conditions_and_origins(
    job: JobRecord,
    trials: Trials,
    references: Trials,
    finals: Callable[..., Trials],
    measured: Callable[[TrialRecord], list[MeasurementRecord]],
) -> None:
    known = {trial.architecture_id: measured(trial) for trial in trials}
    retrained = finals(trials, 3)
    html = without_plotly(report_html(job, retrained, references, measurements=known))
    assert html.count('class="pf-draw"') == 3
    for words in ("How each number was obtained", "9f" * 32, "GPT-like", "10th percentile", "2.13.0"):
        assert words in html
    assert 'data-figure="latency"' in html
    assert 'data-figure="latency"' not in without_plotly(report_html(job, retrained, references))


def test_an_empty_job_still_has_a_report(new_job: Callable[..., JobRecord]) -> None:
    html = without_plotly(report_html(new_job(state="cancelled"), [], []))
    assert "No trial has been trained" in html
