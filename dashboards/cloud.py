"""Many trials in one view of a plane: which of them are drawn as marks, and how dense the rest is.

The view is cut into cells. Of every cell the lowest number is drawn first, then the second of every cell, and
so on up to the limit: nothing that lies alone is lost, and a mark does not move when the job grows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.objectives import OBJECTIVES
from search.records import TrialRecord
from search.tally import Ending, Tally

from .selection import Selection

CELLS_ACROSS, CELLS_UP = 64, 40
MAX_MARKS = 800
"""Drawn and moved by a browser in a tenth of a second, with their hover texts some hundred kilobytes."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One side of a view, in shown units; `low` and `high` are its ends, None where the data end."""

    values: np.ndarray
    is_log: bool
    low: float | None = None
    high: float | None = None

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Where values are on the axis."""
        scaled: np.ndarray = np.log10(values) if self.is_log else values
        return scaled

    def usable(self) -> np.ndarray:
        """Mask of the values that the view has a place for."""
        mask: np.ndarray = np.isfinite(self.values) & ((self.values > 0) | (not self.is_log))
        if self.low is not None:
            mask &= self.values >= self.low
        if self.high is not None:
            mask &= self.values <= self.high
        return mask

    def edges(self, inside: np.ndarray, cells: int) -> np.ndarray:
        """Borders of the cells on the axis, from end to end of the view."""
        places = self.scaled(self.values[inside])
        low = places.min() if self.low is None else float(self.scaled(np.array(self.low)))
        high = places.max() if self.high is None else float(self.scaled(np.array(self.high)))
        if high <= low:
            low, high = low - 0.5, high + 0.5
        return np.linspace(low, high, cells + 1)


@dataclass(frozen=True, slots=True)
class Density:
    """Trials per cell; edges in shown units, rows from below."""

    x_edges: tuple[float, ...]
    y_edges: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Thinned:
    """What of a cloud is drawn. `density` is None where all of it is."""

    numbers: tuple[int, ...]
    total: int
    density: Density | None


@dataclass(frozen=True, slots=True)
class Many:
    """What a page knows of a job with more trials than it reads: counts, samples, and the view's cloud."""

    tally: Tally
    endings: Sequence[Ending]
    sample: Sequence[TrialRecord]
    """Completed trials, evenly by number, inside the reader's filter."""
    cloud: Thinned
    stopped: Thinned
    inside: Tally | None = None
    """Of the trials inside the reader's filter, where there is one."""


def thinned_plane(
    selection: Selection,
    numbers: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    mask: np.ndarray,
    limit: int = MAX_MARKS,
) -> Thinned:
    """The masked trials in the view a reader chose; `x` and `y` in stored units."""
    x_low, x_high, y_low, y_high = selection.zoom or (None, None, None, None)

    def axis(key: str, values: np.ndarray, low: float | None, high: float | None) -> Axis:
        objective = OBJECTIVES[key]
        return Axis(objective.display_scale * values[mask], objective.log and not selection.linear, low, high)

    return thinned_view(
        numbers[mask], axis(selection.x, x, x_low, x_high), axis(selection.y, y, y_low, y_high), limit
    )


def thinned_view(numbers: np.ndarray, x: Axis, y: Axis, limit: int = MAX_MARKS) -> Thinned:
    """At most `limit` of the trials inside the view, and the density where some are left out."""
    inside = np.flatnonzero(x.usable() & y.usable())
    if len(inside) <= limit:
        return Thinned(tuple(int(one) for one in numbers[inside]), len(inside), None)
    x_edges, y_edges = x.edges(inside, CELLS_ACROSS), y.edges(inside, CELLS_UP)
    column = _cells(x.scaled(x.values[inside]), x_edges)
    row = _cells(y.scaled(y.values[inside]), y_edges)
    cell = row * CELLS_ACROSS + column
    order = np.lexsort((numbers[inside], _ranks(cell, numbers[inside])))[:limit]
    counts = np.bincount(cell, minlength=CELLS_ACROSS * CELLS_UP).reshape(CELLS_UP, CELLS_ACROSS)
    density = Density(
        _shown(x, x_edges), _shown(y, y_edges), tuple(tuple(int(one) for one in line) for line in counts)
    )
    return Thinned(tuple(sorted(int(one) for one in numbers[inside][order])), len(inside), density)


def _cells(places: np.ndarray, edges: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.clip(np.searchsorted(edges, places, side="right") - 1, 0, len(edges) - 2)
    return found


def _ranks(cell: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Place of every trial among those of its cell, by number."""
    order = np.lexsort((numbers, cell))
    ordered = cell[order]
    starts = np.r_[0, np.flatnonzero(np.diff(ordered)) + 1]
    first = np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    ranks = np.empty(len(cell), dtype=int)
    ranks[order] = np.arange(len(cell)) - first
    return ranks


def _shown(axis: Axis, edges: np.ndarray) -> tuple[float, ...]:
    return tuple(float(one) for one in (10.0**edges if axis.is_log else edges))
