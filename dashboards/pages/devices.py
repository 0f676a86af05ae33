"""The page of devices: what this machine is and does, and what a front would be on machines not at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluators.devices import Device
from search.records import JobRecord, TrialRecord

from ..charts import Chart
from ..figures import calibration_figure, kernels_of
from ..forecast import forecast_chart, forecasts
from ..theme import dark_colours
from ..wording import shown
from .environment import render
from .twin import twin_html

HIDDEN_FACTS = ("calibration",)
UNITS: Mapping[str, tuple[float, str]] = {
    "bandwidth": (1e-9, "GB/s"),
    "memory": (1.0, "B"),
    "flash": (1.0, "B"),
    "power": (1.0, "W"),
    "clock_hz": (1e-9, "GHz"),
}
"""Numbers of a device: factor and unit. Peaks, whose names are number formats, are in G/s."""


@dataclass(frozen=True, slots=True)
class MeasuredDevice:
    """A machine that latencies were measured on."""

    key: str
    is_here: bool
    facts: tuple[tuple[str, str], ...]
    calibration: tuple[tuple[str, str], ...]
    figure: str
    """Name of its figure, empty without a calibration."""
    twin: str


@dataclass(frozen=True, slots=True)
class TabledDevice:
    """A machine known from its data sheet."""

    name: str
    title: str
    kind: str
    numbers: tuple[str, ...]
    sources: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Question:
    """Which job on which device; `devices` and `jobs` may be asked for: (value, words)."""

    job: JobRecord | None
    device: Device | None
    jobs: Sequence[tuple[str, str]] = ()
    devices: Sequence[tuple[str, str]] = ()
    chosen_device: str = ""


def devices_page(
    answers: Sequence[Mapping[str, Any]], question: Question, trials: Sequence[TrialRecord] = ()
) -> str:
    """HTML of `/devices`. `answers`: those of `/v1/devices`. `trials`: of the job asked about."""
    charts = calibration_charts(answers)
    forecast = forecast_of(question, trials)
    if forecast is not None:
        charts = {**charts, "forecast": forecast}
    measured = [
        _measured(one, place, charts) for place, one in enumerate(answers) if one["kind"] == "measured"
    ]
    return render(
        "devices.html",
        here="devices",
        measured=measured,
        tabled=[_tabled(one) for one in answers if one["kind"] == "analytic"],
        question=question,
        forecast=forecast,
        forecast_twin=twin_html(forecast) if forecast else "",
        asked=len(trials),
        query=f"?job={question.job.id}&device={question.chosen_device}" if question.job else "",
        theme=dark_colours(),
        view={"figures": {name: chart.figure.to_plotly_json() for name, chart in charts.items()}},
    )


def forecast_of(question: Question, trials: Sequence[TrialRecord]) -> Chart | None:
    """The front of the job on the device; None where one of the two is missing."""
    if question.job is None or question.device is None:
        return None
    return forecast_chart(question.job, forecasts(question.job, trials, question.device), question.device)


def calibration_charts(answers: Sequence[Mapping[str, Any]]) -> dict[str, Chart]:
    """`calibration0`, ... by the place of the calibrated device in the list."""
    charts = {}
    for place, one in enumerate(answers):
        kernels = kernels_of(_calibration(one)) if one["kind"] == "measured" else []
        if kernels:
            rows = [(name, 1e6 * measured, 1e6 * fitted) for name, measured, fitted in kernels]
            columns = ("micro-kernel", "measured (µs)", "device model (µs)")
            charts[f"calibration{place}"] = Chart(calibration_figure(kernels), columns, rows)
    return charts


def _calibration(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    found = answer["facts"].get("calibration")
    return found if isinstance(found, Mapping) else {}


def _measured(answer: Mapping[str, Any], place: int, charts: Mapping[str, Chart]) -> MeasuredDevice:
    figure = f"calibration{place}" if f"calibration{place}" in charts else ""
    facts = [
        (name.removesuffix("_bytes").replace("_", " "), _fact(name, value))
        for name, value in answer["facts"].items()
    ]
    return MeasuredDevice(
        key=str(answer["key"]),
        is_here=bool(answer["here"]),
        facts=tuple((name, text) for name, text in facts if name not in HIDDEN_FACTS and text),
        calibration=_calibration_rows(_calibration(answer)),
        figure=figure,
        twin=twin_html(charts[figure]) if figure else "",
    )


def _fact(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, (int, float)):
        return shown("memory_bytes", value)
    return "" if value is None or isinstance(value, Mapping) else str(value)


def _calibration_rows(found: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What the fit says the machine reaches."""
    device = found.get("device")
    if not isinstance(device, Mapping):
        return ()
    rows = [(f"{name} arithmetic", _number(name, one)) for name, one in device["peaks"].items()]
    rows.append(("bandwidth", _number("bandwidth", device["bandwidth"])))
    rows.append(("an operator's launch", f"{1e6 * float(device['usage']['launch_s']):.3g} µs"))
    rows.append(("error of the fit", f"{100 * float(found['rms_log_error']):.0f} %, root mean square"))
    return (*rows, ("calibrated", str(found.get("at", ""))[:16].replace("T", " ")))


def _tabled(answer: Mapping[str, Any]) -> TabledDevice:
    facts = answer["facts"]
    numbers = {**facts["peaks"], **{name: facts[name] for name in UNITS if name in facts}}
    sources = {
        f"{one['source']['text']}, {one['source']['date']}"
        + ("" if one["source"]["checked"] else " (not checked)")
        for one in numbers.values()
        if one.get("source")
    }
    return TabledDevice(
        name=str(answer["key"]),
        title=str(facts["title"]),
        kind=str(facts["kind"]),
        numbers=tuple(f"{name.replace('_hz', '')} {_number(name, one)}" for name, one in numbers.items()),
        sources=tuple(sorted(sources)),
        note=str(facts.get("note") or ""),
    )


def _number(name: str, quoted: Mapping[str, Any]) -> str:
    value = float(quoted["value"])
    if name in UNITS:
        factor, unit = UNITS[name]
        if unit == "B":
            return shown("memory_bytes", value)
        return f"{factor * value:.4g} {unit}"
    return (
        f"{1e-12 * value:.4g} T/s"
        if value >= 1e12
        else f"{1e-9 * value:.4g} G/s"
        if value >= 1e6
        else f"{value:.4g} per cycle"
    )
