"""The page of all trials at once: parallel coordinates over at most 2,000 of them, and the whole cloud."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import plotly.graph_objects as go

from search.records import JobRecord, TrialRecord

from ..charts import Chart
from ..exploring import MAX_ROWS, Dimension, Filters, Line, lines, read_filters
from ..selection import Selection, default_selection
from ..wording import describe
from .environment import render

TABLE_ROWS = 50
"""Shown; the CSV has all."""


@dataclass(frozen=True, slots=True)
class FilterField:
    """The filter of one dimension, as fields of a form."""

    dimension: Dimension
    low: str
    high: str
    chosen: frozenset[str]


def explore_page(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    total: int,
    query: Sequence[tuple[str, str]],
    selection: Selection,
) -> str:
    """HTML of `/jobs/{id}/explore`. `trials`: those with a line; `total`: how many the job has.

    `query`: the permalink's fields, of which the filters are read.

    Raises:
        InvalidInputError: a filter that is none of this job's.
    """
    dimensions, rows = lines(job, trials)
    filters = read_filters(dimensions, query)
    admitted = [line for line in rows if filters.admits(dimensions, line)]
    quantities = [one for one in dimensions if one.is_quantity]
    kept = [(name, text) for name, text in query if text and name.startswith(("min.", "max.", "in."))]
    return render(
        "explore.html",
        job=job,
        total=total,
        count=len(rows),
        limit=MAX_ROWS,
        admitted=len(admitted),
        rows=_sorted(dimensions, admitted, selection)[:TABLE_ROWS],
        describe=describe,
        quantities=quantities,
        x=selection.x,
        y=selection.y,
        fields=[_field(one, filters) for one in dimensions],
        csv=f"/jobs/{job.id}/explore.csv" + (f"?{urlencode(kept)}" if kept else ""),
        data=_data(job, dimensions, rows, total, selection),
    )


def explore_chart(job: JobRecord, trials: Sequence[TrialRecord], query: Iterable[tuple[str, str]]) -> Chart:
    """The rows the filters admit, for the CSV; the page draws them itself."""
    dimensions, rows = lines(job, trials)
    filters = read_filters(dimensions, query)
    columns = ("trial", "state", "on front", *(one.title for one in dimensions))
    admitted = [line for line in rows if filters.admits(dimensions, line)]
    table = [
        (line.trial.label, line.trial.state, "yes" if line.trial.on_front else "no", *line.values)
        for line in admitted
    ]
    return Chart(go.Figure(), columns, table)


def _data(
    job: JobRecord, dimensions: Sequence[Dimension], rows: Sequence[Line], total: int, selection: Selection
) -> dict[str, Any]:
    """What the script draws: names as their index, unknown values as null."""
    places = [{name: index for index, name in enumerate(one.names)} for one in dimensions]
    return {
        "base": f"/jobs/{job.id}",
        "total": total,
        "x": selection.x,
        "y": selection.y,
        "ordinary": {"x": default_selection(job).x, "y": default_selection(job).y},
        "dimensions": [
            {
                "key": one.key,
                "title": one.title,
                "log": one.log,
                "names": list(one.names),
                "scale": one.scale,
                "quantity": one.is_quantity,
            }
            for one in dimensions
        ],
        "rows": [
            {
                "number": line.trial.number,
                "label": line.trial.label,
                "state": line.trial.state,
                "front": line.trial.on_front,
                "what": describe(line.trial.architecture),
                "values": [
                    place[value] if isinstance(value, str) else value
                    for place, value in zip(places, line.values, strict=True)
                ],
            }
            for line in rows
        ],
    }


def _field(dimension: Dimension, filters: Filters) -> FilterField:
    low, high = filters.ranges.get(dimension.key, (None, None))
    return FilterField(
        dimension,
        "" if low is None else f"{low:g}",
        "" if high is None else f"{high:g}",
        filters.names.get(dimension.key, frozenset()),
    )


def _sorted(dimensions: Sequence[Dimension], rows: Sequence[Line], selection: Selection) -> list[Line]:
    """By the quantity of the upright axis, unknown ones last."""
    place = next((index for index, one in enumerate(dimensions) if one.key == selection.y), None)

    def order(line: Line) -> tuple[bool, float, int]:
        value = None if place is None else line.values[place]
        return (not isinstance(value, float), value if isinstance(value, float) else 0.0, line.trial.number)

    return sorted(rows, key=order)
