"""The front: quality against the first cost, or any two quantities.

With it stand what was evaluated, the references and the suggestions.

Colour says who proposed it (search or reference), shape the number format, a hollow mark predicted or noisy.
Between two points of a front the slower one is not yet available, hence the steps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from search.objectives import OBJECTIVES
from search.records import JobRecord, TrialRecord

from ..cloud import Density, Thinned
from ..points import Point, axes, points, staircase, thinned
from ..region import Region
from ..selection import Selection, default_selection
from ..theme import LIGHT, REFERENCE_SYMBOLS, SEARCH_SYMBOLS, empty_layout, figure_layout, symbol
from ..wording import axis_title, factor, format_word

MAX_MARKS = 3000
"""An SVG figure with more marks is slow to move."""
EMPTY = "No architecture has been trained and measured yet."


@dataclass(frozen=True, slots=True)
class Look:
    """How the marks of one group are drawn; `rank` is its place in the legend."""

    symbols: Mapping[str, str]
    colour: str
    size: int
    rank: int
    opacity: float = 1.0
    has_bars: bool = False


SEARCH = Look(SEARCH_SYMBOLS, LIGHT.accent, 11, 1, has_bars=True)
REFERENCE = Look(REFERENCE_SYMBOLS, LIGHT.reference, 10, 2, has_bars=True)
FAINT = Look(REFERENCE_SYMBOLS, LIGHT.reference, 8, 2, opacity=0.45)
CLOUD = Look(SEARCH_SYMBOLS, LIGHT.cloud, 7, 3, opacity=0.75)
STOPPED = Look(SEARCH_SYMBOLS, LIGHT.cloud, 6, 5, opacity=0.7)
OUTSIDE = Look(SEARCH_SYMBOLS, LIGHT.cloud, 7, 6, opacity=0.22)
SUGGESTED_RANK = 4


def front_figure(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    references: Sequence[TrialRecord],
    selection: Selection | None = None,
    cloud: Thinned | None = None,
) -> go.Figure:
    """Quality against the first cost, or the selected axes. `customdata` of every mark is its trial number.

    `cloud`: where `trials` are only some of all, how many there are and where.

    What lies outside the reader's filter is pale; the steps of a front are those of all its members.

    On other axes the front is still that of the job's objectives: its steps join what no other front member
    beats in this plane.
    """
    chosen = selection or default_selection(job)
    plane = (chosen.x, chosen.y)
    outside = points(job, _outside(chosen.region, (*trials, *references)), plane)
    trials, references = chosen.region.inside(trials), chosen.region.inside(references)
    counted = points(job, [trial for trial in trials if trial.state == "completed"], plane)
    family = points(job, [trial for trial in references if trial.state == "completed"], plane)
    stopped = points(job, [trial for trial in trials if trial.state == "pruned"], plane)
    if not (counted or family or stopped or outside):
        return go.Figure(layout=empty_layout(EMPTY))
    front = [point for point in counted if point.on_front]
    dominated = [point for point in counted if not point.on_front]
    both_fronts = [point for point in outside if point.on_front]
    traces = [
        *(_density(cloud.density, cloud.total) if cloud and cloud.density else ()),
        *_stopped(stopped),
        *([_marks(thinned(outside, MAX_MARKS), "outside the filter", OUTSIDE)] if outside else ()),
        *_cloud(thinned(dominated, MAX_MARKS)),
        *_references(family, [point for point in both_fronts if point.number < 0]),
        *_front(front, [point for point in both_fronts if point.number >= 0]),
        *(_speedup(job, counted) if chosen.is_default(job) else ()),
        *_suggestions(job, front),
    ]
    return go.Figure(traces, layout=_layout(job, chosen))


def _layout(job: JobRecord, chosen: Selection) -> dict[str, Any]:
    return figure_layout(
        x=_axis(chosen.x, linear=chosen.linear, ends=chosen.zoom and chosen.zoom[:2]),
        y=_axis(chosen.y, linear=chosen.linear, ends=chosen.zoom and chosen.zoom[2:]),
        uirevision=f"{job.id} {chosen.x} {chosen.y} {chosen.linear}",
        shapes=chosen.region.lines(x=chosen.x, y=chosen.y),
        meta={"brush": {"x": chosen.x, "y": chosen.y}},
    )


def _outside(region: Region, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Those that have a place of their own in the plane: what was stopped early is shown on request only."""
    return [one for one in trials if one.state == "completed" and not region.admits(one)]


def _axis(key: str, *, linear: bool, ends: tuple[float, ...] | None) -> dict[str, Any]:
    is_log = OBJECTIVES[key].log and not linear
    remark = ", log scale" if is_log else ""
    if OBJECTIVES[key].source == "quality":
        remark = ", on validation data"
    axis: dict[str, Any] = {"title": {"text": axis_title(key) + remark}}
    if is_log:
        axis |= {"type": "log", "tickformat": "~r", "dtick": "D2"}
    if ends and not is_log:
        axis |= {"range": list(ends), "autorange": False}
    elif ends and min(ends) > 0:  # a zoom of linear scales may begin below what a logarithm has
        axis |= {"range": [math.log10(end) for end in ends], "autorange": False}
    return axis


def _density(density: Density, total: int) -> list[go.Heatmap]:
    """All dominated trials, counted by cell; the scale is that of logarithms, empty cells are clear."""
    counts = [[one or None for one in line] for line in density.counts]
    top = max(one for line in density.counts for one in line)
    return [
        go.Heatmap(
            x=list(density.x_edges),
            y=list(density.y_edges),
            z=[[None if one is None else math.log10(one) for one in line] for line in counts],
            customdata=counts,
            zmin=-0.4,
            zmax=max(1.0, math.log10(top)),
            colorscale=[[0, "rgba(88,101,119,0)"], [1, "rgba(88,101,119,0.55)"]],
            showscale=False,
            hovertemplate="%{customdata:,} trials around here<extra></extra>",
            name=f"{total:,} evaluated, by density",
            showlegend=False,
        )
    ]


def _cloud(cloud: Sequence[Point]) -> list[go.Scatter]:
    return [_marks(cloud, "evaluated", CLOUD)] if cloud else []


def _stopped(stopped: Sequence[Point]) -> list[go.Scatter]:
    """Their quality is that of fewer steps, so they are shown on request only."""
    if not stopped:
        return []
    trace = _marks(thinned(stopped, MAX_MARKS), "stopped early", STOPPED)
    return [trace.update(visible="legendonly", marker_symbol="x-thin", marker_line_width=1.2)]


def _references(family: Sequence[Point], outside: Sequence[Point]) -> list[go.Scatter]:
    """`outside`: members of the reference front that are pale, and whose steps are drawn all the same."""
    best = [point for point in family if point.on_front]
    rest = [point for point in family if not point.on_front]
    steps = [*best, *outside]
    traces = [_steps(steps, "reference front", REFERENCE, dash="dash", width=1.6)] if steps else []
    for name in sorted({point.number_format for point in family}):
        title = f"reference, {format_word(name)}"
        strong = [point for point in best if point.number_format == name]
        weak = [point for point in rest if point.number_format == name]
        if strong:
            traces.append(_marks(strong, title, REFERENCE).update(legendgroup=title))
        if weak:
            traces.append(_marks(weak, title, FAINT).update(legendgroup=title, showlegend=not strong))
    return traces


def _front(front: Sequence[Point], outside: Sequence[Point]) -> list[go.Scatter]:
    """`outside`: as in `_references`."""
    if not (front or outside):
        return []
    traces = [_steps([*front, *outside], "search front", SEARCH, dash="solid", width=2.4)]
    for name in sorted({point.number_format for point in front}):
        members = [point for point in front if point.number_format == name]
        traces.append(_marks(members, f"search, {format_word(name)}", SEARCH))
    return traces


def _speedup(job: JobRecord, counted: Sequence[Point]) -> list[go.Scatter]:
    """A line from the reference front to the trial of the speed-up, at that trial's quality.

    Only where the reference front has that quality: a trial better or worse than all of it has no such line.
    """
    found = job.indicators.get("speedup_at_equal_quality") or {}
    equal = found if found.get("quality") == "within" and found["value"] > 1 else None
    if equal is None or OBJECTIVES[axes(job)[0]].source != "latency":
        return []
    return [
        _speedup_line(point, float(equal["value"]))
        for point in counted
        if point.number == int(equal["trial"])
    ]


def _speedup_line(point: Point, value: float) -> go.Scatter:
    return go.Scatter(
        x=[point.x, point.x * value**0.5, point.x * value],
        y=[point.y] * 3,
        mode="lines+text",
        text=["", f"{factor(value)} faster", ""],
        textposition="bottom center",
        textfont={"color": LIGHT.highlight, "size": 12},
        line={"color": LIGHT.highlight, "width": 1.6, "dash": "dot"},
        name="speed-up at equal quality",
        legendrank=SUGGESTED_RANK,
        hoverinfo="skip",
    )


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
            legendrank=SUGGESTED_RANK,
            hoverinfo="skip",
        )
    ]


def _steps(front: Sequence[Point], name: str, look: Look, *, dash: str, width: float) -> go.Scatter:
    stairs = staircase(front)
    return go.Scatter(
        x=[point.x for point in stairs],
        y=[point.y for point in stairs],
        mode="lines",
        line={"shape": "hv", "color": look.colour, "dash": dash, "width": width},
        name=name,
        legendrank=look.rank,
        hoverinfo="skip",
    )


def _marks(cloud: Sequence[Point], name: str, look: Look) -> go.Scatter:
    trace = go.Scatter(
        x=[point.x for point in cloud],
        y=[point.y for point in cloud],
        customdata=[point.number for point in cloud],
        hovertext=[point.hover for point in cloud],
        hovertemplate="%{hovertext}<extra></extra>",
        mode="markers",
        marker={
            "symbol": [symbol(look.symbols, point.number_format, hollow=point.hollow) for point in cloud],
            "size": look.size,
            "color": look.colour,
            "opacity": look.opacity,
            "line": {"color": look.colour},
        },
        name=name,
        legendrank=look.rank,
    )
    if look.has_bars:
        trace.update(
            error_x=_bars([(p.x_low, p.x, p.x_high) for p in cloud], look.colour),
            error_y=_bars([(p.y_low, p.y, p.y_high) for p in cloud], look.colour),
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
