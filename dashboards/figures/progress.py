"""How the front grew: hypervolume after each counted trial, over time or over the training it took.

The reference family's hypervolume is a line.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from search.indicators import counted
from search.records import JobRecord, TrialRecord

from ..selection import Over
from ..theme import LIGHT, empty_layout, figure_layout

EMPTY = "The hypervolume is known once the references are measured."
TITLES: Mapping[Over, str] = {
    "trials": "counted trials",
    "time": "minutes since the start",
    "steps": "training steps the search has spent",
}


@dataclass(frozen=True, slots=True)
class Growth:
    """Hypervolume after so many counted trials; when that was, and what the search had trained by then."""

    trials: int
    minutes: float | None
    steps: int | None
    hypervolume: float

    def at(self, over: Over) -> float | None:
        return {"trials": self.trials, "time": self.minutes, "steps": self.steps}[over]


def progress_rows(job: JobRecord) -> list[tuple[int, float]]:
    """(counted trials, hypervolume): the text twin."""
    return [(int(count), float(value)) for count, value in job.indicators.get("hypervolume_history") or ()]


def growth(job: JobRecord, trials: Sequence[TrialRecord]) -> list[Growth]:
    """The history with time and training; both are unknown where the trial of a count is not there."""
    rows = counted(trials, job.objectives)
    ends = sorted(one.ended_at or one.created_at for one in rows)
    return [_growth(job, trials, ends, count, value) for count, value in progress_rows(job)]


def _growth(
    job: JobRecord, trials: Sequence[TrialRecord], ends: Sequence[dt.datetime], count: int, value: float
) -> Growth:
    if not 1 <= count <= len(ends) or job.started_at is None:
        return Growth(count, None, None, value)
    moment = ends[count - 1]
    spent: dict[str, int] = {}
    for trial in trials:
        if trial.number >= 0 and trial.ended_at is not None and trial.ended_at <= moment:
            # siblings in another number format share one training
            spent[trial.training_id] = max(spent.get(trial.training_id, 0), trial.steps)
    minutes = (moment - job.started_at).total_seconds() / 60
    return Growth(count, minutes, sum(spent.values()), value)


def progress_figure(job: JobRecord, trials: Sequence[TrialRecord] = (), over: Over = "trials") -> go.Figure:
    """Hypervolume (larger is better), in the numbers of the search stage."""
    found = [(at, one) for one in growth(job, trials) if (at := one.at(over)) is not None]
    if not found:
        return go.Figure(layout=empty_layout(EMPTY))
    places = [at for at, _ in found]
    unit = {"trials": "trials", "time": "min", "steps": "steps"}[over]
    number = "%{x:.3~f}" if over == "time" else "%{x:,}"
    traces = [
        go.Scatter(
            x=places,
            y=[one.hypervolume for _, one in found],
            mode="lines+markers",
            line={"shape": "hv", "color": LIGHT.accent, "width": 2.4},
            marker={"size": 5},
            name="search",
            hovertemplate=f"{number} {unit}<br>hypervolume %{{y:.4f}}<extra></extra>",
        )
    ]
    reference = job.indicators.get("reference_hypervolume")
    if reference is not None:
        traces.append(
            go.Scatter(
                x=[min(0, places[0]), places[-1]],
                y=[reference, reference],
                mode="lines",
                line={"color": LIGHT.reference, "dash": "dash", "width": 1.6},
                name="references, final numbers" if job.stage == "final" else "references",
                hovertemplate="references %{y:.4f}<extra></extra>",
            )
        )
    return go.Figure(
        traces,
        layout=figure_layout(
            x={"title": {"text": TITLES[over]}, "rangemode": "tozero"},
            y={"title": {"text": "hypervolume, scaled by the references"}},
            uirevision=f"{job.id} {over}",
        ),
    )
