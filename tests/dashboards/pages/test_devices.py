"""The page of devices, and the front it predicts: what is said of numbers that nobody measured."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from dashboards import Question, devices_page
from dashboards.anatomy import target_of
from dashboards.figures import calibration_figure, kernels_of
from dashboards.figures.calibration import EMPTY
from dashboards.forecast import forecast_chart, forecasts
from dashboards.summary import target_words
from evaluators.devices import Device, load_devices, predict_on
from search.records import JobRecord, TrialRecord
from space.architecture import parse_architecture

Trials = list[TrialRecord]
CALIBRATION = {
    "device": {
        "peaks": {"fp32": {"value": 4e10, "source": "calibration"}},
        "bandwidth": {"value": 9e9, "source": "calibration"},
        "usage": {"launch_s": 2e-6},
    },
    "kernels": {
        "matmul": {"measured_s": 3e-5, "fitted_s": 2.5e-5},
        "norm": {"measured_s": 4e-6, "fitted_s": 5e-6},
    },
    "rms_log_error": 0.21,
    "at": "2026-11-23T03:00:00+00:00",
}


@pytest.fixture(scope="module")
def device() -> Device:
    return load_devices().get("rtx-4090")


def answers(**facts: Any) -> list[Mapping[str, Any]]:
    here = {
        "key": "cpu/x",
        "here": True,
        "kind": "measured",
        "facts": {"cpu": "x", "memory_bytes": 2**33, **facts},
    }
    quoted = {"value": 2e12, "source": {"text": "a sheet", "date": "2026-11-22", "checked": False}}
    table = {"title": "A device", "kind": "gpu", "peaks": {"fp32": quoted}, "bandwidth": quoted}
    return [here, {"key": "a-device", "here": False, "kind": "analytic", "facts": table}]


def test_a_forecast_is_the_device_model_and_the_measured_quality(
    job: JobRecord, trials: Trials, device: Device
) -> None:
    found = forecasts(job, trials, device)
    assert {one.trial.number for one in found} == {one.number for one in trials if one.state == "completed"}
    assert [one.there_s for one in found] == sorted(one.there_s for one in found)
    for one in found:
        architecture = parse_architecture(one.trial.architecture)
        assert one.there_s == predict_on(architecture, device, batch_size=1, tokens=128).value
        assert one.low_s < one.there_s < one.high_s
        assert one.quality == one.trial.effective["bits_per_byte"]
        is_measured = one.trial.kinds["latency_s"] == "measured"
        assert one.here_s == (one.trial.effective["latency_s"] if is_measured else None)


def test_a_job_of_single_tokens_is_forecast_in_single_tokens(
    new_job: Callable[..., JobRecord], trials: Trials, device: Device
) -> None:
    """Beside a latency of one token stands none of a whole pass."""
    plain = new_job()
    target = {**plain.context["target"], "phase": "decode"}
    decoding = replace(plain, context={**plain.context, "target": target})
    (one,) = forecasts(decoding, trials[:1], device)
    architecture = parse_architecture(one.trial.architecture)
    assert one.there_s == predict_on(architecture, device, tokens=128, phase="decode").value
    assert target_of(decoding).phase == "decode"
    assert target_words(decoding).endswith("one more token per sequence")
    assert "token" not in target_words(plain)


def test_nothing_beats_the_front_there(
    job: JobRecord, trials: Trials, references: Trials, device: Device
) -> None:
    found = forecasts(job, [*trials, *references], device)
    for group in (
        [one for one in found if one.trial.number >= 0],
        [one for one in found if one.trial.number < 0],
    ):
        front = [one for one in group if one.is_front_there]
        assert front
        for one in group:
            beaten = any(
                other.there_s <= one.there_s
                and other.quality <= one.quality
                and (other.there_s, other.quality) != (one.there_s, one.quality)
                for other in group
            )
            assert one.is_front_there == (not beaten) or (one.there_s, one.quality) in {
                (other.there_s, other.quality) for other in front
            }


def test_what_does_not_fit_is_on_no_front(job: JobRecord, trials: Trials, device: Device) -> None:
    assert device.memory is not None
    memory = device.memory.model_copy(update={"value": 600_000.0})
    found = forecasts(job, trials, device.model_copy(update={"memory": memory}))
    assert {one.fits for one in found} == {True, False}
    assert not any(one.is_front_there for one in found if not one.fits)


def test_every_mark_says_that_it_is_predicted(job: JobRecord, trials: Trials, device: Device) -> None:
    chart = forecast_chart(job, forecasts(job, trials, device), device)
    figure = chart.figure.to_plotly_json()
    assert "analytic, not measured" in figure["layout"]["xaxis"]["title"]["text"]
    marks = [trace for trace in figure["data"] if trace["mode"] == "markers"]
    assert all(trace["marker"]["symbol"].endswith("open") for trace in marks)
    assert sum(len(trace["x"]) for trace in marks) == len(chart.rows)
    assert "on the front here" in chart.note
    assert {len(row) for row in chart.rows} == {len(chart.columns)}


def test_what_cannot_be_predicted_is_left_out(job: JobRecord, trials: Trials, device: Device) -> None:
    odd = [replace(trials[0], architecture={**trials[0].architecture, "model": "odd"}), *trials[1:3]]
    assert [one.trial.number for one in forecasts(job, odd, device)] == sorted(
        (1, 2), key=lambda number: forecasts(job, [odd[number]], device)[0].there_s
    )


def test_the_page_shows_machine_table_and_front(job: JobRecord, trials: Trials, device: Device) -> None:
    question = Question(job, device, [(job.id, job.name)], [(device.name, device.title)], device.name)
    html = devices_page(answers(calibration=CALIBRATION), question, trials)
    for words in ("8 GiB", "40 G/s", "9 GB/s", "2 µs", "21 %", "a sheet, 2026-11-22 (not checked)", "2 T/s"):
        assert words in html
    assert 'data-figure="calibration0"' in html
    assert 'data-figure="forecast"' in html
    assert f"/devices/forecast.csv?job={job.id}&amp;device=rtx-4090" in html


def test_without_a_calibration_the_page_says_how_to_make_one() -> None:
    html = devices_page(answers(), Question(None, None))
    assert "paretoformer device calibrate" in html
    assert "There is no job yet" in html
    assert "data-figure" not in html


def test_the_calibration_figure_has_measured_and_fitted(new_job: Callable[..., JobRecord]) -> None:
    kernels = kernels_of(CALIBRATION)
    assert [name for name, _, _ in kernels] == ["norm", "matmul"]
    _, marks = calibration_figure(kernels).data
    assert list(marks.x) == pytest.approx([4, 30])
    assert list(marks.y) == pytest.approx([5, 25])
    assert calibration_figure([]).layout.annotations[0].text.replace("<br>", " ") == EMPTY
