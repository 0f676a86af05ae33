"""How the front grew: hypervolume after each counted trial, over time or over the training it took.

The reference family's hypervolume is a line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from search.indicators import Scale, counted, hypervolume_history
from search.records import JobRecord, TrialRecord
from search.tally import Ending

from ..region import Region
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


def growth_inside(
    job: JobRecord, trials: Sequence[TrialRecord], references: Sequence[TrialRecord], region: Region
) -> list[tuple[int, float]]:
    """As `progress_rows`, of the trials of the region alone; counts stay those of all counted trials."""
    scale = Scale.of(counted(references, job.objectives), job.objectives)
    if scale is None:
        return []
    ordered = sorted(
        counted(trials, job.objectives), key=lambda one: (one.ended_at or one.created_at, one.number)
    )
    places = [place for place, one in enumerate(ordered, start=1) if region.admits(one)]
    history = hypervolume_history([ordered[place - 1] for place in places], scale)
    return [(places[int(count) - 1], volume) for count, volume in history]


def growth(
    job: JobRecord, endings: Sequence[Ending], history: Sequence[tuple[int, float]] | None = None
) -> list[Growth]:
    """The history with time and training; both are unknown where the trial of a count is not there.

    `history`: by default the job's.
    """
    ordered = sorted(endings, key=lambda one: one.at)
    moments = [one.at for one in ordered if one.is_counted]
    spent: dict[str, int] = {}
    total, place = 0, 0
    found = []
    for count, value in progress_rows(job) if history is None else history:
        if not 1 <= count <= len(moments) or job.started_at is None:
            found.append(Growth(count, None, None, value))
            continue
        moment = moments[count - 1]
        while place < len(ordered) and ordered[place].at <= moment:
            one, before = ordered[place], spent.get(ordered[place].training_id, 0)
            # siblings in another number format share one training
            spent[one.training_id] = max(before, one.steps)
            total += spent[one.training_id] - before
            place += 1
        found.append(Growth(count, (moment - job.started_at).total_seconds() / 60, total, value))
    return found


def progress_figure(
    job: JobRecord,
    endings: Sequence[Ending] = (),
    over: Over = "trials",
    inside: Sequence[tuple[int, float]] = (),
) -> go.Figure:
    """Hypervolume (larger is better), in the numbers of the search stage. `inside`: see `growth_inside`."""
    found = [(at, one) for one in growth(job, endings) if (at := one.at(over)) is not None]
    if not found:
        return go.Figure(layout=empty_layout(EMPTY))
    places = [at for at, _ in found]
    traces = [_line(found, over, "search", LIGHT.accent, "circle")]
    part = [(at, one) for one in growth(job, endings, inside) if (at := one.at(over)) is not None]
    if part:
        traces.append(_line(part, over, "inside the filter alone", LIGHT.highlight, "diamond"))
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


def _line(found: Sequence[tuple[float, Growth]], over: Over, name: str, colour: str, mark: str) -> go.Scatter:
    unit = {"trials": "trials", "time": "min", "steps": "steps"}[over]
    number = "%{x:.3~f}" if over == "time" else "%{x:,}"
    return go.Scatter(
        x=[at for at, _ in found],
        y=[one.hypervolume for _, one in found],
        mode="lines+markers",
        line={"shape": "hv", "color": colour, "width": 2.4},
        marker={"size": 5, "symbol": mark},
        name=name,
        hovertemplate=f"{number} {unit}<br>hypervolume %{{y:.4f}}<extra></extra>",
    )
