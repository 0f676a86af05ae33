import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dashboards.figures import front_figure
from dashboards.figures.front import EMPTY, MAX_MARKS
from dashboards.theme import LIGHT
from search.records import JobRecord, TrialRecord

NewTrial = Callable[..., TrialRecord]


def traces(figure: Any) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for trace in figure.to_plotly_json()["data"]:
        found.setdefault(trace["name"], trace)
    return found


def test_the_front_is_a_step_line_through_exactly_the_front(
    job: JobRecord, trials: list[TrialRecord]
) -> None:
    by_name = traces(front_figure(job, trials, []))
    line = by_name["search front"]
    front = sorted((t.values["latency_s"] * 1e3, t.values["bits_per_byte"]) for t in trials if t.on_front)
    assert line["line"]["shape"] == "hv"
    assert list(zip(line["x"], line["y"], strict=True)) == front


def test_every_mark_opens_its_trial_and_says_what_it_is(
    job: JobRecord, trials: list[TrialRecord], references: list[TrialRecord]
) -> None:
    figure = front_figure(job, trials, references).to_plotly_json()
    marked = [
        (number, text)
        for trace in figure["data"]
        if trace.get("hovertext")
        for number, text in zip(trace["customdata"], trace["hovertext"], strict=True)
    ]
    known = {t.number for t in (*trials, *references) if t.state in ("completed", "pruned")}
    assert sorted(number for number, _ in marked) == sorted(known)
    words = dict(marked)[next(t.number for t in trials if t.on_front)]
    assert "±" in words
    assert "(measured)" in words
    assert "ms" in words


def test_references_have_their_own_front_and_a_shape_per_number_format(
    job: JobRecord, references: list[TrialRecord]
) -> None:
    by_name = traces(front_figure(job, [], references))
    assert by_name["reference front"]["line"]["dash"] == "dash"
    full, int8 = by_name["reference, fp32"], by_name["reference, int8"]
    assert set(full["marker"]["symbol"]) == {"triangle-up"}
    assert set(int8["marker"]["symbol"]) == {"triangle-down"}


def test_intervals_become_error_bars_around_the_value(job: JobRecord, trials: list[TrialRecord]) -> None:
    figure = front_figure(job, trials, []).to_plotly_json()
    marks = [trace for trace in figure["data"] if "error_x" in trace]
    front = {trial.number: trial for trial in trials if trial.on_front}
    assert sum(len(trace["x"]) for trace in marks) == len(front)
    for trace in marks:
        for number, x, high in zip(trace["customdata"], trace["x"], trace["error_x"]["array"], strict=True):
            assert abs(x + high - 1e3 * front[number].spread["latency_s"].high) < 1e-9


def test_predicted_marks_are_hollow_and_stopped_trials_wait_for_the_reader(
    job: JobRecord, trials: list[TrialRecord]
) -> None:
    by_name = traces(front_figure(job, trials, []))
    predicted = {t.number for t in trials if t.kinds["latency_s"] == "predicted" or t.flags}
    cloud = by_name["evaluated"]
    for number, mark in zip(cloud["customdata"], cloud["marker"]["symbol"], strict=True):
        assert mark.endswith("-open") == (number in predicted)
    assert by_name["stopped early"]["visible"] == "legendonly"


def test_a_large_cloud_is_thinned(new_job: Callable[..., JobRecord], new_trial: NewTrial) -> None:
    rng = random.Random(1)
    template = new_trial(0, 3.0, 1e-3)
    values = template.values
    many = [
        replace(template, number=i, values={**values, "latency_s": 1e-3 + rng.random()}) for i in range(4000)
    ]
    (cloud,) = front_figure(new_job(), many, []).to_plotly_json()["data"]
    assert len(cloud["x"]) == MAX_MARKS
    assert cloud["x"][-1] == max(1e3 * trial.values["latency_s"] for trial in many)


def test_suggestions_are_ringed_and_named(job: JobRecord, trials: list[TrialRecord]) -> None:
    ring = traces(front_figure(job, trials, []))["suggested"]
    assert ring["customdata"] == [item["trial"] for item in job.indicators["suggestions"]]
    assert "knee" in ring["text"]


def test_the_speed_up_is_drawn_only_at_equal_quality(job: JobRecord, trials: list[TrialRecord]) -> None:
    trial = next(t for t in trials if t.on_front)
    found = {"value": 2.0, "trial": trial.number, "quality": "within", "lower_bound": False}
    drawn = replace(job, indicators={"speedup_at_equal_quality": found})
    line = traces(front_figure(drawn, trials, []))["speed-up at equal quality"]
    assert line["x"][-1] == 2 * line["x"][0]
    for quality in ("better", "worse"):
        bound = replace(job, indicators={"speedup_at_equal_quality": {**found, "quality": quality}})
        assert "speed-up at equal quality" not in traces(front_figure(bound, trials, []))


def test_nothing_measured_gives_a_sentence(new_job: Callable[..., JobRecord]) -> None:
    layout = front_figure(new_job(), [], []).to_plotly_json()["layout"]
    assert layout["annotations"][0]["text"].replace("<br>", " ") == EMPTY


def test_a_linear_cost_stands_on_its_own_axis(new_job: Callable[..., JobRecord], new_trial: NewTrial) -> None:
    layout = front_figure(
        new_job(objectives=("bits_per_byte", "params")), [new_trial(0, 2.0, 1e-3)], []
    ).layout
    assert layout.xaxis.title.text == "parameters (M), log scale"
    assert layout.yaxis.title.text == "bits per byte (bits), on validation data"


def test_hostile_text_reaches_no_figure_as_markup(
    new_job: Callable[..., JobRecord], new_trial: NewTrial
) -> None:
    """A14: hover text is not interpreted as HTML."""
    trial = replace(new_trial(-1, 2.0, 1e-3), note="<a href='https://evil.example'>x</a>", flags=("<b>",))
    text = json.dumps(front_figure(new_job(), [], [trial]).to_plotly_json())
    assert "<a" not in text
    assert "&lt;b&gt;" in text


def test_only_svg_traces_and_palette_colours_are_used(
    job: JobRecord, trials: list[TrialRecord], references: list[TrialRecord]
) -> None:
    figure = front_figure(job, trials, references).to_plotly_json()
    assert {trace["type"] for trace in figure["data"]} == {"scatter"}
    colours = {trace["marker"]["color"] for trace in figure["data"] if "marker" in trace}
    assert colours <= {LIGHT.accent, LIGHT.reference, LIGHT.cloud, LIGHT.highlight}
