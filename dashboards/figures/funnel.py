"""Where proposals went: how many were proposed, passed the screen, were trained, measured, and retrained."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from search.records import JobRecord
from search.tally import Tally, rungs_of

from ..theme import LIGHT, empty_layout, figure_layout

EMPTY = "Nothing has been proposed yet."
NOTHING_INSIDE = "No trial lies inside the filter."


@dataclass(frozen=True, slots=True)
class Stage:
    """How many architectures came this far; `rate` is the share of the stage before, None for the first."""

    name: str
    count: int
    rate: float | None


def funnel(job: JobRecord, tally: Tally, *, is_part: bool = False) -> list[Stage]:
    """The stages of the search in order; references go beside it and are not counted.

    `is_part`: the tally is of some trials; what was proposed and never became a trial has no numbers to
    filter by.
    """
    rungs = zip(rungs_of(job), tally.reached, strict=True)
    proposed = max(int(job.counters.get("proposed", 0)), tally.total)
    counts = [
        *([] if is_part else [("proposed", proposed)]),
        ("inside the filter" if is_part else "passed the screen", tally.total),
        *((f"trained {step:,} steps", count) for step, count in rungs),
        ("measured whole", tally.measured),
        ("on the front", tally.on_front),
        ("finalists", tally.finalists),
    ]
    before: int | None = None
    stages = []
    for name, count in counts:
        stages.append(Stage(name, count, None if before is None else count / before if before else 0.0))
        before = count
    return stages


def funnel_figure(stages: Sequence[Stage]) -> go.Figure:
    """One bar per stage, from top to bottom, with the share of the stage before."""
    if not stages or not stages[0].count:
        is_part = bool(stages) and stages[0].name != "proposed"
        return go.Figure(layout=empty_layout(NOTHING_INSIDE if is_part else EMPTY))
    texts = [
        f" {stage.count:,}" + ("" if stage.rate is None else f"  ({100 * stage.rate:.0f} %)")
        for stage in stages
    ]
    bars = go.Bar(
        x=[stage.count for stage in stages],
        y=[stage.name for stage in stages],
        orientation="h",
        text=texts,
        textposition="outside",
        cliponaxis=False,
        marker={"color": LIGHT.accent, "opacity": 0.85},
        textfont={"color": LIGHT.ink},
        hovertemplate="%{y}: %{x:,}<extra></extra>",
    )
    top = stages[0].count
    layout = figure_layout(
        x={"title": {"text": "architectures"}, "range": [0, 1.28 * top], "rangemode": "tozero"},
        y={"autorange": "reversed", "ticks": "", "showgrid": False},
        bargap=0.3,
        showlegend=False,
    )
    return go.Figure(bars, layout=layout)
