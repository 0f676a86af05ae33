"""The front: quality against the first cost, with what was evaluated, the references and the suggestions.

Colour says who proposed it (search or reference), shape says the number format, a hollow mark says predicted or noisy.
Between two points of a front the slower one is not yet available, hence the steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from search.objectives import OBJECTIVES
from search.records import JobRecord, TrialRecord

from ..points import Point, axes, points, staircase, thinned
from ..theme import LIGHT, REFERENCE_SYMBOLS, SEARCH_SYMBOLS, empty_layout, figure_layout, symbol
from ..wording import axis_title, factor, format_word

MAX_MARKS = 3000
"""An SVG figure with more marks is slow to move."""
EMPTY = "No architecture has been trained and measured yet."


def front_figure(
    job: JobRecord, trials: Sequence[TrialRecord], references: Sequence[TrialRecord]
) -> go.Figure:
    """Quality against the first cost. `customdata` of every mark is its trial number."""
    counted = points(job, [trial for trial in trials if trial.state == "completed"])
    family = points(job, [trial for trial in references if trial.state == "completed"])
    stopped = points(job, [trial for trial in trials if trial.state == "pruned"])
    if not (counted or family or stopped):
        return go.Figure(layout=empty_layout(EMPTY))
    front = [point for point in counted if point.on_front]
    dominated = [point for point in counted if not point.on_front]
    traces = [
        *_stopped(stopped),
        *_cloud(thinned(dominated, MAX_MARKS)),
        *_references(family),
        *_front(front),
        *_speedup(job, counted),
        *_suggestions(job, front),
    ]
    x_key, y_key = axes(job)
    return go.Figure(traces, layout=_layout(job, x_key, y_key))


def _layout(job: JobRecord, x_key: str, y_key: str) -> dict[str, Any]:
    return figure_layout(
        x=_axis(x_key, ", log scale" if OBJECTIVES[x_key].log else ""),
        y=_axis(y_key, ", on validation data"),
        uirevision=job.id,
    )


def _axis(key: str, remark: str) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": axis_title(key) + remark}}
    if OBJECTIVES[key].log:
        axis |= {"type": "log", "tickformat": "~r", "dtick": "D2"}
    return axis


def _cloud(cloud: Sequence[Point]) -> list[go.Scatter]:
    return (
        [] if not cloud else [_marks(cloud, SEARCH_SYMBOLS, LIGHT.cloud, "evaluated", size=7, opacity=0.75)]
    )


def _stopped(stopped: Sequence[Point]) -> list[go.Scatter]:
    """Their quality is that of fewer steps, so they are shown on request only."""
    if not stopped:
        return []
    shown = thinned(stopped, MAX_MARKS)
    trace = _marks(
        shown, {}, LIGHT.cloud, "stopped early", size=6, opacity=0.7, symbols=["x-thin"] * len(shown)
    )
    return [trace.update(visible="legendonly", marker_line_width=1.2, marker_line_color=LIGHT.cloud)]


def _references(family: Sequence[Point]) -> list[go.Scatter]:
    best = [point for point in family if point.on_front]
    rest = [point for point in family if not point.on_front]
    traces = []
    if best:
        traces.append(_steps(best, LIGHT.reference, "reference front", dash="dash", width=1.6))
    for name in _formats(family):
        group = f"reference, {format_word(name)}"
        strong = [point for point in best if point.number_format == name]
        weak = [point for point in rest if point.number_format == name]
        if strong:
            traces.append(
                _marks(strong, REFERENCE_SYMBOLS, LIGHT.reference, group, size=10, bars=True, group=group)
            )
        if weak:
            faint = _marks(weak, REFERENCE_SYMBOLS, LIGHT.reference, group, size=8, opacity=0.45, group=group)
            traces.append(faint.update(showlegend=not strong))
    return traces


def _front(front: Sequence[Point]) -> list[go.Scatter]:
    if not front:
        return []
    traces = [_steps(front, LIGHT.accent, "search front", dash="solid", width=2.4)]
    for name in _formats(front):
        members = [point for point in front if point.number_format == name]
        title = f"search, {format_word(name)}"
        traces.append(_marks(members, SEARCH_SYMBOLS, LIGHT.accent, title, size=11, bars=True))
    return traces


def _speedup(job: JobRecord, counted: Sequence[Point]) -> list[go.Scatter]:
    """A line from the reference front to the trial of the speed-up, at that trial's quality.

    A lower bound has no reference of equal quality, so no line.
    """
    found = job.indicators.get("speedup_at_equal_quality") or {}
    by_number = {point.number: point for point in counted}
    point = by_number.get(found.get("trial"))
    value = found.get("value")
    drawable = OBJECTIVES[axes(job)[0]].source == "latency" and not found.get("lower_bound")
    if point is None or not value or value <= 1 or not drawable:
        return []
    return [
        go.Scatter(
            x=[point.x, point.x * value**0.5, point.x * value],
            y=[point.y] * 3,
            mode="lines+text",
            text=["", f"{factor(value)} faster", ""],
            textposition="bottom center",
            textfont={"color": LIGHT.highlight, "size": 12},
            line={"color": LIGHT.highlight, "width": 1.6, "dash": "dot"},
            name="speed-up at equal quality",
            hoverinfo="skip",
        )
    ]


def _suggestions(job: JobRecord, front: Sequence[Point]) -> list[go.Scatter]:
    by_number = {point.number: point for point in front}
    named = [
        (by_number[int(item["trial"])], str(item["kind"]))
        for item in job.indicators.get("suggestions") or ()
        if int(item["trial"]) in by_number
    ]
    if not named:
        return []
    return [
        go.Scatter(
            x=[point.x for point, _ in named],
            y=[point.y for point, _ in named],
            customdata=[point.number for point, _ in named],
            text=[kind.replace("_", " ").replace("-", " ") for _, kind in named],
            mode="markers+text",
            textposition="top right",
            textfont={"color": LIGHT.highlight, "size": 12},
            marker={
                "symbol": "circle-open",
                "size": 19,
                "color": LIGHT.highlight,
                "line": {"width": 2, "color": LIGHT.highlight},
            },
            name="suggested",
            hoverinfo="skip",
        )
    ]


def _steps(front: Sequence[Point], colour: str, name: str, *, dash: str, width: float) -> go.Scatter:
    stairs = staircase(front)
    return go.Scatter(
        x=[point.x for point in stairs],
        y=[point.y for point in stairs],
        mode="lines",
        line={"shape": "hv", "color": colour, "dash": dash, "width": width},
        name=name,
        hoverinfo="skip",
    )


def _marks(
    cloud: Sequence[Point],
    table: Mapping[str, str],
    colour: str,
    name: str,
    *,
    size: int,
    opacity: float = 1.0,
    bars: bool = False,
    group: str | None = None,
    symbols: Sequence[str] = (),
) -> go.Scatter:
    trace = go.Scatter(
        x=[point.x for point in cloud],
        y=[point.y for point in cloud],
        customdata=[point.number for point in cloud],
        hovertext=[point.hover for point in cloud],
        hovertemplate="%{hovertext}<extra></extra>",
        mode="markers",
        marker={
            "symbol": list(symbols)
            or [symbol(table, point.number_format, hollow=point.hollow) for point in cloud],
            "size": size,
            "color": colour,
            "opacity": opacity,
        },
        name=name,
        legendgroup=group,
    )
    if bars:
        trace.update(
            error_x=_bars([(p.x_low, p.x, p.x_high) for p in cloud], colour),
            error_y=_bars([(p.y_low, p.y, p.y_high) for p in cloud], colour),
        )
    return trace


def _bars(intervals: Sequence[tuple[float, float, float]], colour: str) -> dict[str, Any]:
    """95 % intervals, which need not be symmetric."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for _, value, high in intervals],
        "arrayminus": [value - low for low, value, _ in intervals],
        "color": colour,
        "thickness": 1.2,
        "width": 3,
    }


def _formats(cloud: Sequence[Point]) -> list[str]:
    return sorted({point.number_format for point in cloud})
