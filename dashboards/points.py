"""Trials as points of the front figure, and the rows of its text twin: prepared once, tested alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search.gene_values import number_format
from search.objectives import OBJECTIVES
from search.records import JobRecord, Spread, TrialRecord

from .wording import describe, format_word, is_hollow, label, plain, shown, shown_spread

EXTRA_COLUMNS = ("latency_s", "params", "memory_bytes")
"""Shown in tables beside the objectives."""


@dataclass(frozen=True, slots=True)
class Point:
    """A trial in the plane of two quantities, in display units; by default first cost (x) and quality (y)."""

    number: int
    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    number_format: str
    hollow: bool
    on_front: bool
    hover: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table: text, interval, how it was obtained."""

    text: str
    spread: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table of trials: the text twin of a mark."""

    number: int
    label: str
    what: str
    architecture: Mapping[str, Any]
    number_format: str
    cells: tuple[Cell, ...]
    seeds: int
    flags: tuple[str, ...]
    on_front: bool
    suggestion: str
    note: str


def axes(job: JobRecord) -> tuple[str, str]:
    """(x, y): the first cost and the quality objective."""
    return job.objectives[1], job.objectives[0]


def points(
    job: JobRecord, trials: Sequence[TrialRecord], plane: tuple[str, str] | None = None
) -> list[Point]:
    """The trials that have both numbers, fastest first. `plane`: keys of x and y, by default `axes`."""
    x_key, y_key = plane or axes(job)
    known = [t for t in trials if _finite(t.effective.get(x_key)) and _finite(t.effective.get(y_key))]
    return sorted(
        (_point(job, trial, x_key, y_key) for trial in known), key=lambda point: (point.x, point.number)
    )


def staircase(cloud: Sequence[Point]) -> list[Point]:
    """The points no other one beats in the plane, fastest first: what a step line may join."""
    kept: list[Point] = []
    for point in sorted(cloud, key=lambda p: (p.x, p.y, p.number)):
        if not kept or point.y < kept[-1].y:
            kept.append(point)
    return kept


def thinned(cloud: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` points, evenly over their order; the first and the last stay.

    >>> thinned([], 3)
    []
    """
    if len(cloud) <= limit:
        return list(cloud)
    return [cloud[round(i * (len(cloud) - 1) / (limit - 1))] for i in range(limit)]


def columns(job: JobRecord) -> tuple[str, ...]:
    """Keys of a trial table: the objectives, then what else a reader asks for."""
    return (*job.objectives, *(key for key in EXTRA_COLUMNS if key not in job.objectives))


def rows(job: JobRecord, trials: Sequence[TrialRecord]) -> list[Row]:
    """The table of these trials, fastest first, unknown values last."""
    x_key = job.objectives[1]
    suggestions = {int(s["trial"]): str(s["kind"]) for s in job.indicators.get("suggestions") or ()}
    ordered = sorted(trials, key=lambda t: (t.effective.get(x_key, math.inf), t.number))
    return [_row(trial, columns(job), suggestions.get(trial.number, "")) for trial in ordered]


def cell(trial: TrialRecord, key: str) -> Cell:
    """One number of a trial as a table shows it."""
    value = trial.effective.get(key)
    if value is None:
        return Cell("–")
    return Cell(
        shown(key, value), shown_spread(key, trial.effective_spread.get(key)), trial.kinds.get(key, "")
    )


def finalist_columns(job: JobRecord) -> tuple[str, ...]:
    """Headers of the finalists' table: quality in the search, at the full budget, on the test part; cost."""
    quality = label(job.objectives[0])
    return (
        f"{quality}, search",
        f"{quality}, full budget",
        f"{quality}, test part",
        label(job.objectives[1]),
    )


def finalist_rows(job: JobRecord, trials: Sequence[TrialRecord]) -> list[Row]:
    """Trials and references that were trained again with several seeds, best quality first."""
    quality, cost = job.objectives[:2]
    retrained = [(trial, trial.final) for trial in trials if trial.final is not None]
    ordered = sorted(retrained, key=lambda pair: (pair[1].values.get(quality, math.inf), pair[0].number))
    return [
        replace(
            _row(trial, (), ""),
            cells=(
                number_cell(quality, trial.values, trial.spread),
                number_cell(quality, final.values, final.spread),
                number_cell(quality, final.test, final.test_spread),
                cell(trial, cost),
            ),
        )
        for trial, final in ordered
    ]


def number_cell(key: str, values: Mapping[str, float], spread: Mapping[str, Spread]) -> Cell:
    """One number from a mapping of values; a dash where it is unknown."""
    return Cell(shown(key, values[key]), shown_spread(key, spread.get(key))) if key in values else Cell("–")


def hover_text(job: JobRecord, trial: TrialRecord) -> str:
    """What the point is: architecture, every objective with interval and kind. Markup is escaped."""
    name = f"reference {trial.label}" if trial.number < 0 else f"trial {trial.label}"
    lines = [f"<b>{plain(name)}</b> {plain(describe(trial.architecture))}"]
    if trial.number < 0 and trial.note:
        lines.append(plain(trial.note))
    for key in job.objectives:
        number = cell(trial, key)
        text = f"{label(key)} {number.text} {number.spread}".rstrip()
        lines.append(plain(text + (f" ({number.kind})" if number.kind else "")))
    if trial.final:
        lines.append(f"finalist: {trial.final.seeds} seeds, {trial.final.steps:,} steps")
    elif trial.state == "pruned":
        lines.append(f"stopped after {trial.steps:,} steps")
    if trial.flags:
        lines.append(plain("flags: " + ", ".join(trial.flags)))
    return "<br>".join(lines)


def _row(trial: TrialRecord, keys: Sequence[str], suggestion: str) -> Row:
    return Row(
        number=trial.number,
        label=trial.label,
        what=describe(trial.architecture),
        architecture=trial.architecture,
        number_format=format_word(number_format(trial.architecture)),
        cells=tuple(cell(trial, key) for key in keys),
        seeds=trial.seeds,
        flags=trial.flags,
        on_front=trial.on_front,
        suggestion=suggestion,
        note=trial.note,
    )


def _point(job: JobRecord, trial: TrialRecord, x_key: str, y_key: str) -> Point:
    x, x_low, x_high = _interval(trial, x_key)
    y, y_low, y_high = _interval(trial, y_key)
    return Point(
        number=trial.number,
        x=x,
        y=y,
        x_low=x_low,
        x_high=x_high,
        y_low=y_low,
        y_high=y_high,
        number_format=number_format(trial.architecture),
        hollow=is_hollow(trial, x_key) or is_hollow(trial, y_key),
        on_front=trial.on_front,
        hover=hover_text(job, trial),
    )


def _interval(trial: TrialRecord, key: str) -> tuple[float, float, float]:
    """Value, low and high in the display unit; without a spread all three are the value."""
    value = trial.effective[key]
    spread = trial.effective_spread.get(key) or Spread(value, value, 1)
    scale = OBJECTIVES[key].display_scale
    return scale * value, scale * min(spread.low, value), scale * max(spread.high, value)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
