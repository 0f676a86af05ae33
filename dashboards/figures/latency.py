"""Is the composed latency any good: predicted against measured, for every architecture that has both."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import plotly.graph_objects as go

from search.objectives import OBJECTIVES
from search.records import MeasurementRecord, TrialRecord

from ..theme import LIGHT, empty_layout, figure_layout

EMPTY = "No architecture has both a predicted and a measured latency yet."
LATENCY = OBJECTIVES["latency_s"]


@dataclass(frozen=True, slots=True)
class LatencyPair:
    """One architecture's latency, predicted from blocks and measured whole, seconds."""

    trial: int
    predicted_s: float
    measured_s: float

    @property
    def log_ratio_percent(self) -> float:
        """How far off the prediction was, percent of the measured value."""
        return 100 * (self.predicted_s / self.measured_s - 1)


def latency_pairs(
    trials: Iterable[TrialRecord], measurements: Mapping[str, Iterable[MeasurementRecord]]
) -> list[LatencyPair]:
    """The trials with both; `measurements` are those of each architecture id. The newest of a kind counts."""
    pairs = []
    for trial in trials:
        by_kind = {
            record.kind: record.value
            for record in sorted(measurements.get(trial.architecture_id, ()), key=lambda r: r.created_at)
            if record.quantity == "latency_s" and record.value is not None
        }
        if "predicted" in by_kind and "measured" in by_kind:
            pairs.append(LatencyPair(trial.number, by_kind["predicted"], by_kind["measured"]))
    return pairs


def latency_figure(pairs: Iterable[LatencyPair]) -> go.Figure:
    """Measured over predicted latency, both in ms on log axes; the line is a perfect prediction."""
    known = sorted(pairs, key=lambda pair: pair.predicted_s)
    if not known:
        return go.Figure(layout=empty_layout(EMPTY))
    scale = LATENCY.display_scale
    ends = [
        scale * pick(value for pair in known for value in (pair.predicted_s, pair.measured_s))
        for pick in (min, max)
    ]
    axis = {"type": "log", "tickformat": "~r", "dtick": "D2"}
    return go.Figure(
        [
            go.Scatter(
                x=ends,
                y=ends,
                mode="lines",
                line={"color": LIGHT.muted, "dash": "dot", "width": 1.2},
                name="perfect",
                hoverinfo="skip",
            ),
            go.Scatter(
                x=[scale * pair.predicted_s for pair in known],
                y=[scale * pair.measured_s for pair in known],
                customdata=[pair.trial for pair in known],
                text=[f"{pair.log_ratio_percent:+.1f} %" for pair in known],
                mode="markers",
                marker={"color": LIGHT.accent, "size": 8},
                name="architectures",
                hovertemplate="trial %{customdata}<br>predicted %{x:.3g} ms (%{text})<br>measured %{y:.3g} ms"
                "<extra></extra>",
            ),
        ],
        layout=figure_layout(
            x={"title": {"text": "predicted latency (ms)"}, **axis},
            y={"title": {"text": "measured latency (ms)"}, **axis},
            showlegend=False,
        ),
    )
