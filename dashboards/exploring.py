"""Trials as rows over many dimensions, for parallel coordinates: quantities, genes, and their filters.

A filter is an interval of a numeric dimension in the unit it is shown in, or a set of names of another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.gene_values import GENES, Value
from search.objectives import OBJECTIVES
from search.records import JobRecord, TrialRecord
from space.errors import InvalidInputError, nearest

from .region import read_bound
from .wording import axis_title, format_word

MAX_ROWS = 2000
COSTS = ("memory_bytes", "params", "macs")
"""Beside the objectives; further quantities say what these say already."""
MAX_NAMES = 14
"""A dimension with more different names is left out: its axis could not be read."""

SHOWN_GENES = ("num_layers", "d_model", "mixer", "feed_forward", "d_ff", "position", "number_format")
"""More axes than these cannot be read beside the quantities."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One axis. `names` is empty for numbers; a quantity is known of every trial, a gene of the rows only."""

    key: str
    title: str
    log: bool
    names: tuple[str, ...]
    scale: float = 1.0
    is_quantity: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One trial: its value in every dimension, in shown units."""

    trial: TrialRecord
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a reader wants to see; an end that is None is open."""

    ranges: Mapping[str, tuple[float | None, float | None]]
    names: Mapping[str, frozenset[str]]

    def admits(self, dimensions: Sequence[Dimension], line: Line) -> bool:
        for dimension, value in zip(dimensions, line.values, strict=True):
            if dimension.key in self.names and value not in self.names[dimension.key]:
                return False
            if dimension.key in self.ranges and not _inside(self.ranges[dimension.key], value):
                return False
        return True


def lines(job: JobRecord, trials: Sequence[TrialRecord]) -> tuple[list[Dimension], list[Line]]:
    """The dimensions in which these trials differ, genes first, the job's objectives last; and the trials."""
    known = {key for trial in trials for key in trial.effective}
    others = [key for key in COSTS if key in known and key not in job.objectives]
    columns: list[tuple[Dimension, list[Value]]] = []
    for key in SHOWN_GENES:
        values = [_gene_value(key, trial.architecture) for trial in trials]
        columns.append((Dimension(key, GENES[key].title, False, _names(values)), values))
    for key in (*others, *reversed(job.objectives)):
        scale, log = OBJECTIVES[key].display_scale, OBJECTIVES[key].log
        column: list[Value] = [
            scale * trial.effective[key] if key in trial.effective else None for trial in trials
        ]
        columns.append((Dimension(key, axis_title(key), log, (), scale, True), column))
    kept = [(dimension, values) for dimension, values in columns if _is_shown(job, dimension, values)]
    rows = [Line(trial, tuple(values[index] for _, values in kept)) for index, trial in enumerate(trials)]
    return [dimension for dimension, _ in kept], rows


def read_filters(dimensions: Sequence[Dimension], query: Iterable[tuple[str, str]]) -> Filters:
    """`min.KEY`, `max.KEY` and `in.KEY` of a permalink; empty values are no filter.

    Raises:
        InvalidInputError: unknown dimension, or a bound that is no number.
    """
    by_key = {dimension.key: dimension for dimension in dimensions}
    ranges: dict[str, tuple[float | None, float | None]] = {}
    names: dict[str, set[str]] = {}
    for name, text in query:
        kind, dot, key = name.partition(".")
        if not dot or kind not in ("min", "max", "in") or not text.strip():
            continue
        if key not in by_key:
            raise InvalidInputError(f"filter '{name[:40]}' is none of this job; {nearest(key, by_key)}")
        if kind == "in":
            names.setdefault(key, set()).add(text)
            continue
        low, high = ranges.get(key, (None, None))
        bound = read_bound(name, text)
        ranges[key] = (bound, high) if kind == "min" else (low, bound)
    return Filters(ranges, {key: frozenset(chosen) for key, chosen in names.items()})


def _inside(interval: tuple[float | None, float | None], value: Value) -> bool:
    low, high = interval
    if not isinstance(value, float):
        return False
    return (low is None or value >= low) and (high is None or value <= high)


def _is_shown(job: JobRecord, dimension: Dimension, values: Sequence[Value]) -> bool:
    """Objectives always; anything else if it differs and, being a name, can be read."""
    if dimension.key in job.objectives:
        return True
    known = {value for value in values if value is not None}
    return len(known) > 1 and len(dimension.names) <= MAX_NAMES


def _names(values: Sequence[Value]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if isinstance(value, str)}))


def _gene_value(key: str, architecture: Mapping[str, Any]) -> Value:
    value = GENES[key].of(architecture)
    return format_word(str(value)) if key == "number_format" else value
