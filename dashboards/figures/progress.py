"""How the front grew: hypervolume after each counted trial, with the reference family's as a line."""

import plotly.graph_objects as go

from search.records import JobRecord

from ..theme import LIGHT, empty_layout, figure_layout

EMPTY = "The hypervolume is known once the references are measured."


def progress_rows(job: JobRecord) -> list[tuple[int, float]]:
    """(counted trials, hypervolume): the text twin."""
    return [(int(count), float(value)) for count, value in job.indicators.get("hypervolume_history") or ()]


def progress_figure(job: JobRecord) -> go.Figure:
    """Hypervolume (larger is better) over counted trials, in the numbers of the search stage."""
    history = progress_rows(job)
    if not history:
        return go.Figure(layout=empty_layout(EMPTY))
    counts = [count for count, _ in history]
    traces = [
        go.Scatter(
            x=counts,
            y=[value for _, value in history],
            mode="lines+markers",
            line={"shape": "hv", "color": LIGHT.accent, "width": 2.4},
            marker={"size": 5},
            name="search",
            hovertemplate="%{x} trials<br>hypervolume %{y:.4f}<extra></extra>",
        )
    ]
    reference = job.indicators.get("reference_hypervolume")
    if reference is not None:
        traces.append(
            go.Scatter(
                x=[min(0, counts[0]), counts[-1]],
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
            x={"title": {"text": "counted trials"}, "rangemode": "tozero"},
            y={"title": {"text": "hypervolume, scaled by the references"}},
            uirevision=job.id,
        ),
    )
