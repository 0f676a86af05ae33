"""Quality against the latency predicted for another device. Marks are hollow: no latency was measured."""

from collections.abc import Sequence
from typing import Protocol

import plotly.graph_objects as go

from search.objectives import OBJECTIVES
from search.records import JobRecord, TrialRecord

from ..theme import LIGHT, empty_layout, figure_layout
from ..wording import axis_title, describe, plain

EMPTY = "No trial of this job can be predicted on this device yet."


class Predicted(Protocol):
    """What the figure needs to know of a trial on the other device."""

    @property
    def trial(self) -> TrialRecord: ...
    @property
    def quality(self) -> float: ...
    @property
    def there_s(self) -> float: ...
    @property
    def low_s(self) -> float: ...
    @property
    def high_s(self) -> float: ...
    @property
    def is_front_there(self) -> bool: ...


def forecast_figure(job: JobRecord, found: Sequence[Predicted], title: str) -> go.Figure:
    """`title`: of the device. Bars are the factor within which a prediction is worth believing."""
    if not found:
        return go.Figure(layout=empty_layout(EMPTY))
    own = [one for one in found if one.trial.number >= 0]
    references = [one for one in found if one.trial.number < 0]
    there = [one for one in own if one.is_front_there]
    rest = [one for one in own if not one.is_front_there]
    traces = [
        _marks(
            [one for one in rest if not one.trial.on_front], "other trials", LIGHT.cloud, "circle-open", 7
        ),
        _steps(
            [one for one in references if one.is_front_there], "reference front, predicted", LIGHT.reference
        ),
        _marks(references, "references", LIGHT.reference, "triangle-up-open", 9),
        _marks(
            [one for one in rest if one.trial.on_front],
            "on the front here only",
            LIGHT.highlight,
            "x-thin-open",
            9,
        ),
        _steps(there, "search front, predicted", LIGHT.accent),
        _marks(there, "on the front there", LIGHT.accent, "circle-open", 11, bars=True),
    ]
    quality = job.objectives[0]
    layout = figure_layout(
        x={
            "title": {"text": f"latency on {plain(title)} (ms)<br>analytic, not measured; log scale"},
            "type": "log",
            "tickformat": "~r",
            "dtick": "D2",
        },
        y={"title": {"text": f"{axis_title(quality)}, measured"}, "autorange": _up(quality)},
    )
    return go.Figure([trace for trace in traces if len(trace.x)], layout=layout)


def _up(quality: str) -> str | bool:
    """Better is always below."""
    return "reversed" if OBJECTIVES[quality].maximise else True


def _steps(front: Sequence[Predicted], name: str, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[1e3 * one.there_s for one in front],
        y=[one.quality for one in front],
        mode="lines",
        line={"shape": "hv", "color": colour, "dash": "dot", "width": 1.8},
        name=name,
        hoverinfo="skip",
    )


def _marks(
    group: Sequence[Predicted], name: str, colour: str, symbol: str, size: int, *, bars: bool = False
) -> go.Scatter:
    trace = go.Scatter(
        x=[1e3 * one.there_s for one in group],
        y=[one.quality for one in group],
        customdata=[one.trial.number for one in group],
        hovertext=[
            f"<b>{'reference' if one.trial.number < 0 else 'trial'} {plain(one.trial.label)}</b> "
            f"{plain(describe(one.trial.architecture))}<br>"
            f"predicted {1e3 * one.there_s:.3g} ms, between {1e3 * one.low_s:.3g} and {1e3 * one.high_s:.3g}"
            for one in group
        ],
        hovertemplate="%{hovertext}<extra></extra>",
        mode="markers",
        marker={"symbol": symbol, "size": size, "color": colour, "line": {"color": colour, "width": 1.5}},
        name=name,
    )
    if bars:
        trace.update(
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [1e3 * (one.high_s - one.there_s) for one in group],
                "arrayminus": [1e3 * (one.there_s - one.low_s) for one in group],
                "color": colour,
                "thickness": 0.8,
                "width": 2,
            }
        )
    return trace
