"""How the trainings of a job went on: validation quality at the end of every rung, one line each.

Where a line ends early, others were better by then (successive halving).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from search.objectives import OBJECTIVES
from search.records import JobRecord, MeasurementRecord, TrialRecord

from ..region import EVERYTHING, Region
from ..theme import LIGHT, empty_layout, figure_layout
from ..wording import axis_title, plain

EMPTY = "No training has reached the end of a rung yet."
LOOKS = {
    "outside": ("outside the filter", LIGHT.cloud, "solid", 1.0, 0.2),
    "other": ("other trials", LIGHT.cloud, "solid", 1.2, 0.6),
    "reference": ("references", LIGHT.reference, "dash", 1.6, 0.9),
    "front": ("the front", LIGHT.accent, "solid", 2.2, 1.0),
}
"""Group -> words, colour, line, width, opacity; drawn in this order."""


@dataclass(frozen=True, slots=True)
class LearningLine:
    """One training of the search: (steps, validation value in the shown unit); `name`: of its trials."""

    name: str
    group: str
    number: int
    points: tuple[tuple[int, float], ...]


def learning_lines(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    curves: Mapping[str, Iterable[MeasurementRecord]],
    region: Region = EVERYTHING,
) -> list[LearningLine]:
    """One line per training; trials that differ only in their number format share it, and one of them inside
    the region is enough.
    """
    scale = OBJECTIVES[job.objectives[0]].display_scale
    owners: dict[str, list[TrialRecord]] = {}
    for trial in sorted(trials, key=lambda one: (not one.on_front, one.number < 0, abs(one.number))):
        owners.setdefault(trial.training_id, []).append(trial)
    lines = []
    for training, own in owners.items():
        longest = max(one.steps for one in own)
        values = {
            record.fidelity: scale * record.value
            for record in curves.get(training, ())
            if record.value is not None and record.seed == 0 and 0 < record.fidelity <= longest
        }
        if values:
            name = ", ".join(one.label for one in own[:4])
            group = _group(own) if any(map(region.admits, own)) else "outside"
            lines.append(LearningLine(name, group, own[0].number, tuple(sorted(values.items()))))
    return lines


def learning_figure(job: JobRecord, lines: Sequence[LearningLine], region: Region = EVERYTHING) -> go.Figure:
    """Lines of a group are one trace with gaps, so that many cost no more than few."""
    if not lines:
        return go.Figure(layout=empty_layout(EMPTY))
    traces = []
    for group, (words, colour, dash, width, opacity) in LOOKS.items():
        own = [line for line in lines if line.group == group]
        if not own:
            continue
        x: list[int | None] = []
        y: list[float | None] = []
        numbers: list[int | None] = []
        names: list[str] = []
        for line in own:
            for step, value in line.points:
                x.append(step)
                y.append(value)
                numbers.append(line.number)
                names.append(f"trial {line.name}" if line.number >= 0 else f"reference {line.name}")
            x.append(None)
            y.append(None)
            numbers.append(None)
            names.append("")
        traces.append(
            go.Scatter(
                x=x, y=y, customdata=numbers, hovertext=[plain(name) for name in names], mode="lines+markers",
                line={"color": colour, "dash": dash, "width": width}, opacity=opacity,
                marker={"size": 5, "symbol": "diamond" if group == "reference" else "circle"}, name=words,
                hovertemplate="%{hovertext}<br>step %{x:,}<br>%{y:.4g}<extra></extra>",
            )
        )  # fmt: skip
    layout = figure_layout(
        x={"title": {"text": "training steps"}, "rangemode": "tozero"},
        y={"title": {"text": f"{axis_title(job.objectives[0])}, on validation data"}},
        shapes=region.lines(y=job.objectives[0]),
        meta={"brush": {"y": job.objectives[0]}},
    )
    return go.Figure(traces, layout=layout)


def _group(own: Sequence[TrialRecord]) -> str:
    if any(one.number < 0 for one in own):
        return "reference"
    return "front" if any(one.on_front for one in own) else "other"
