"""How trials learned: training loss per step, and the validation values at the ends of their rungs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from search.objectives import OBJECTIVES
from search.records import JobRecord, MeasurementRecord

from ..theme import LIGHT, SERIES, empty_layout, figure_layout
from ..wording import axis_title, plain

EMPTY = "No training curve is stored for this trial yet."
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True, slots=True)
class Curve:
    """One training run: (step, loss) of training batches and (step, value) on validation data, same unit."""

    seed: int
    training: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...]


def curve_key(job: JobRecord) -> str:
    """The quantity drawn: bits per byte where that is the objective, else the loss."""
    return "bits_per_byte" if job.objectives[0] == "bits_per_byte" else "loss"


def learning_curves(job: JobRecord, measurements: Sequence[MeasurementRecord]) -> list[Curve]:
    """One curve per training (fingerprint and seed), in the unit of `curve_key`; stored losses are nats.

    Values of the exported form have no curve of their own: they stand in the table of measurements.
    """
    key = curve_key(job)
    scale = 1 / math.log(2) if key == "bits_per_byte" else 1.0
    runs: dict[tuple[str, int], list[MeasurementRecord]] = {}
    for record in measurements:
        if record.quantity == key and record.fidelity > 0 and record.value is not None:
            runs.setdefault((record.fingerprint, record.seed), []).append(record)
    curves = []
    for (_, seed), records in sorted(runs.items(), key=lambda run: (run[0][1], run[0][0])):
        ordered = sorted(records, key=lambda record: record.fidelity)
        training = {int(step): scale * loss for r in ordered for step, loss in r.detail.get("curve") or ()}
        if not training:
            continue
        validation = tuple((r.fidelity, r.value) for r in ordered if r.value is not None)
        curves.append(Curve(seed, tuple(sorted(training.items())), validation))
    return curves


def curve_figure(job: JobRecord, curves: Sequence[Curve]) -> go.Figure:
    """Loss (or bits per byte) over training steps."""
    if not any(curve.training or curve.validation for curve in curves):
        return go.Figure(layout=empty_layout(EMPTY))
    traces = []
    for index, curve in enumerate(curves):
        suffix = f", seed {curve.seed}" if len(curves) > 1 else ""
        if curve.training:
            traces.append(
                go.Scatter(
                    x=[step for step, _ in curve.training],
                    y=[value for _, value in curve.training],
                    mode="lines",
                    line={"color": LIGHT.cloud, "width": 1.4, "dash": DASHES[index % len(DASHES)]},
                    name=f"training batches{suffix}",
                    hovertemplate="step %{x}<br>%{y:.4g}<extra></extra>",
                )
            )
        traces.append(
            go.Scatter(
                x=[step for step, _ in curve.validation],
                y=[value for _, value in curve.validation],
                mode="lines+markers",
                line={"color": LIGHT.accent, "width": 2, "dash": DASHES[index % len(DASHES)]},
                marker={"size": 9, "symbol": ["circle", "diamond", "square", "hexagon2"][index % 4]},
                name=f"validation{suffix}",
                hovertemplate="validation at step %{x}<br>%{y:.4g}<extra></extra>",
            )
        )
    key = curve_key(job)
    title = axis_title(key) if key in OBJECTIVES else key
    return go.Figure(
        traces,
        layout=figure_layout(
            x={"title": {"text": "training steps"}, "rangemode": "tozero"}, y={"title": {"text": title}}
        ),
    )


def compared_curves(
    job: JobRecord, trials: Sequence[tuple[str, Sequence[Curve]]]
) -> tuple[go.Figure, list[tuple[str, int, int, float]]]:
    """The longest trainings of several trials in one figure, and its table: (trial, seed, step, value).

    `trials`: name and curves of each, in the order of `theme.SERIES`.
    """
    traces: list[go.Scatter] = []
    rows: list[tuple[str, int, int, float]] = []
    for (name, curves), series in zip(trials, SERIES, strict=False):
        chosen = longest(curves)
        rows += [(name, curve.seed, step, value) for curve in chosen for step, value in curve.validation]
        for index, curve in enumerate(chosen):
            traces += _compared_traces(curve, name, series, is_first=index == 0)
    if not traces:
        return go.Figure(layout=empty_layout("No training curve is stored for these trials.")), []
    key = curve_key(job)
    layout = figure_layout(
        x={"title": {"text": "training steps"}, "rangemode": "tozero"},
        y={"title": {"text": axis_title(key) if key in OBJECTIVES else key}},
    )
    return go.Figure(traces, layout=layout), rows


def longest(curves: Sequence[Curve]) -> list[Curve]:
    """The trainings that went furthest: a finalist's, where there are any."""
    ends = [max((step for step, _ in (*curve.validation, *curve.training)), default=0) for curve in curves]
    return [curve for curve, end in zip(curves, ends, strict=True) if end == max(ends)]


def _compared_traces(
    curve: Curve, name: str, series: tuple[str, str, str, str], *, is_first: bool
) -> list[go.Scatter]:
    colour, mark, dash, _ = series
    label = plain(name)
    return [
        go.Scatter(
            x=[step for step, _ in curve.training],
            y=[value for _, value in curve.training],
            mode="lines",
            line={"color": colour, "width": 1},
            opacity=0.4,
            legendgroup=label,
            showlegend=False,
            hoverinfo="skip",
        ),
        go.Scatter(
            x=[step for step, _ in curve.validation],
            y=[value for _, value in curve.validation],
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            marker={"size": 9, "symbol": mark},
            name=label,
            legendgroup=label,
            showlegend=is_first,
            hovertemplate=f"{label}, seed {curve.seed}<br>step %{{x}}<br>%{{y:.4g}}<extra></extra>",
        ),
    ]
