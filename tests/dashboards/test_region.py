from collections.abc import Callable
from dataclasses import replace

import pytest

from dashboards import job_charts, view
from dashboards.figures import growth_inside
from dashboards.figures.progress import progress_rows
from dashboards.region import Bound, Region, read_region
from dashboards.selection import Selection, default_selection, read_selection
from search.records import JobRecord, MeasurementRecord, TrialRecord
from space.errors import InvalidInputError

Trials = list[TrialRecord]
Measured = Callable[[TrialRecord], list[MeasurementRecord]]
FIELDS = [
    ("min.latency_s", "0.5"),
    ("max.latency_s", "2"),
    ("max.trial", "12"),
    ("min.params", ""),
    ("x", "params"),
]


def filtered(trials: Trials) -> Region:
    """The slower half of what was measured."""
    latencies = sorted(1e3 * one.values["latency_s"] for one in trials if "latency_s" in one.values)
    return Region((Bound("latency_s", latencies[len(latencies) // 2], None),))


def test_a_filter_leads_back_to_itself_through_the_address(job: JobRecord) -> None:
    chosen = read_selection(job, x="params", fields=FIELDS)
    assert chosen.region.bounds == (Bound("latency_s", 0.5, 2.0), Bound("trial", None, 12.0))
    assert chosen.query(job) == "?x=params&min.latency_s=0.5&max.latency_s=2&max.trial=12"
    assert not default_selection(job).region


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("min.latency", "1", "latency_s"),
        ("max.trial", "many", "leave it empty"),
        ("min.params", "nan", "no number"),
    ],
)
def test_a_filter_that_is_none_says_what_would_be(name: str, value: str, meant: str) -> None:
    with pytest.raises(InvalidInputError, match=meant):
        read_region([(name, value)])


def test_bounds_are_in_shown_units_and_a_trial_without_the_number_is_outside(
    trials: Trials, references: Trials
) -> None:
    known = next(one for one in trials if "latency_s" in one.values)
    exact = Region((Bound("latency_s", *[1e3 * known.effective["latency_s"]] * 2),))
    assert exact.admits(known)
    assert not exact.admits(replace(known, values={}, final=None))
    late = Region((Bound("trial", 5, None),))
    assert [one.number for one in late.inside(trials)] == list(range(5, len(trials)))
    assert late.inside(references) == list(references)


def test_every_chart_shows_the_filter(
    job: JobRecord, trials: Trials, references: Trials, measured: Measured
) -> None:
    every = [*trials, *references]
    known = {one.architecture_id: measured(one) for one in every}
    curves = {one.training_id: measured(one) for one in every}
    region = filtered(trials)
    chosen = Selection("latency_s", "bits_per_byte", region=region)
    charts = job_charts(job, trials, references, known, chosen, curves=curves)
    inside = {one.label for one in region.inside(every)}
    pale = {one.number for one in every if one.label not in inside}
    assert pale

    assert {str(row[0]) for row in charts["front"].rows} <= inside
    traces = {trace.name: trace for trace in charts["front"].figure.data}
    completed = {one.number for one in every if one.state == "completed"}
    assert set(traces["outside the filter"].customdata) == pale & completed
    drawn = [
        trace for name, trace in traces.items() if name != "outside the filter" and trace.mode == "markers"
    ]
    assert not pale & {number for trace in drawn for number in trace.customdata}
    plain = {trace.name: trace for trace in job_charts(job, trials, references)["front"].figure.data}
    assert traces["search front"].x == plain["search front"].x

    assert charts["funnel"].rows[0][:2] == (
        "inside the filter",
        sum(one.number >= 0 for one in region.inside(every)),
    )
    assert {str(row[0]) for row in charts["latency"].rows} <= inside
    assert {trace.name for trace in charts["latency"].figure.data} >= {"outside the filter", "architectures"}
    assert "outside the filter" in {trace.name for trace in charts["learning"].figure.data}
    assert "inside the filter alone" in {trace.name for trace in charts["progress"].figure.data}
    assert len(charts["front"].figure.layout.shapes) == 1
    assert charts["latency"].figure.layout.meta == {"brush": {"y": "latency_s"}}


def test_growth_inside_everything_is_the_growth_of_the_job(
    job: JobRecord, trials: Trials, references: Trials
) -> None:
    assert growth_inside(job, trials, references, Region()) == progress_rows(job)
    part = growth_inside(job, trials, references, filtered(trials))
    assert 0 < part[-1][1] < progress_rows(job)[-1][1]
    assert growth_inside(job, trials, [], Region()) == []


def test_the_page_says_how_much_lies_inside_and_leads_back(
    job: JobRecord, trials: Trials, references: Trials
) -> None:
    region = filtered(trials)
    chosen = Selection("params", "bits_per_byte", region=region)
    html = view(job, trials, references, selection=chosen)["html"]
    assert f"{len(region.inside(trials))} of {len(trials)} trials inside" in html["region"]
    assert f'href="/jobs/{job.id}?x=params"' in html["region"]
    both = replace(
        chosen, region=Region((*region.bounds, Bound("trial", 1, None), Bound("weights_bytes", 1, None)))
    )
    assert (
        view(job, trials, references, selection=both)["explore"]
        == f"?min.latency_s={region.bounds[0].low:.6g}"
    )
    shown = [one.number for one in trials if f'/trials/{one.number}"' in html["front_table"]]
    assert shown == [one.number for one in region.inside(trials) if one.on_front]
    assert view(job, trials, references)["html"]["region"].strip() == ""
