"""Is the composed latency any good: predicted against measured, for every architecture that has both."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from search.objectives import OBJECTIVES
from search.records import MeasurementRecord, TrialRecord

from ..region import EVERYTHING, Region
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
    """The trials with both; `measurements` are those of each architecture id, of other jobs too.

    A trial is paired with what its own job predicted before it was measured: another job may have had another
    target, and a later one knows the measured value already.
    """
    pairs = []
    for trial in trials:
        predicted = [
            record.value
            for record in sorted(measurements.get(trial.architecture_id, ()), key=lambda r: r.created_at)
            if record.quantity == "latency_s"
            and record.kind == "predicted"
            and record.value is not None
            and record.detail.get("job", trial.job_id) == trial.job_id
        ]
        measured = trial.values.get("latency_s")
        if predicted and measured is not None and trial.kinds.get("latency_s") == "measured":
            pairs.append(LatencyPair(trial.number, predicted[-1], measured))
    return pairs


def latency_figure(
    pairs: Iterable[LatencyPair], outside: Collection[int] = (), region: Region = EVERYTHING
) -> go.Figure:
    """Measured over predicted latency, both in ms on log axes; the line is a perfect prediction.

    `outside`: trials outside the region, drawn pale.
    """
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
            *(_marks([one for one in known if one.trial in outside], 0.18) if outside else ()),
            *_marks([one for one in known if one.trial not in outside], 1.0),
        ],
        layout=figure_layout(
            x={"title": {"text": "predicted latency (ms)"}, **axis},
            y={"title": {"text": "measured latency (ms)"}, **axis},
            showlegend=False,
            shapes=region.lines(y="latency_s"),
            meta={"brush": {"y": "latency_s"}},
        ),
    )


def _marks(pairs: Sequence[LatencyPair], opacity: float) -> list[go.Scatter]:
    scale = LATENCY.display_scale
    return [
        go.Scatter(
            x=[scale * pair.predicted_s for pair in pairs],
            y=[scale * pair.measured_s for pair in pairs],
            customdata=[pair.trial for pair in pairs],
            text=[f"{pair.log_ratio_percent:+.1f} %" for pair in pairs],
            mode="markers",
            marker={"color": LIGHT.accent, "size": 8, "opacity": opacity},
            name="architectures" if opacity == 1 else "outside the filter",
            hovertemplate="trial %{customdata}<br>predicted %{x:.3g} ms (%{text})<br>measured %{y:.3g} ms"
            "<extra></extra>",
        )
    ]
