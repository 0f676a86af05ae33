"""A part of the results that a reader brushed: bounds on quantities and on the trial number.

Every chart of a job shows it: what lies outside is pale where single trials are drawn, and left out where
trials are counted. It stands in the address as `min.KEY` and `max.KEY`, in the units that are shown.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from search.objectives import OBJECTIVES
from search.records import TrialRecord
from search.tally import NUMBER, Within
from space.errors import InvalidInputError, nearest

from .theme import LIGHT
from .wording import axis_title

TRIAL = "trial"
"""Key of the trial's number; references have none and lie inside any bounds on it."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Ends of one quantity in the shown unit; None is open."""

    key: str
    low: float | None
    high: float | None

    @property
    def title(self) -> str:
        return "trial number" if self.key == TRIAL else axis_title(self.key)

    @property
    def words(self) -> str:
        """
        >>> Bound("trial", 3.0, None).words, Bound("latency_s", 0.5, 2.0).words
        ('trial number from 3', 'latency (ms) from 0.5 to 2')
        """
        ends = (("from", self.low), ("to", self.high))
        return " ".join([self.title, *(f"{word} {end:g}" for word, end in ends if end is not None)])

    def admits(self, trial: TrialRecord) -> bool:
        if self.key == TRIAL:
            return trial.number < 0 or self._holds(trial.number)
        value = trial.effective.get(self.key)
        return value is not None and self._holds(OBJECTIVES[self.key].display_scale * value)

    def _holds(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


@dataclass(frozen=True, slots=True)
class Region:
    """What lies inside all bounds; without any, everything does."""

    bounds: tuple[Bound, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.bounds)

    def admits(self, trial: TrialRecord) -> bool:
        return all(bound.admits(trial) for bound in self.bounds)

    def inside(self, trials: Iterable[TrialRecord]) -> list[TrialRecord]:
        return [trial for trial in trials if self.admits(trial)]

    def fields(self) -> list[tuple[str, str]]:
        """For the address."""
        ends = [(bound.key, bound.low, bound.high) for bound in self.bounds]
        named = [((f"min.{key}", low), (f"max.{key}", high)) for key, low, high in ends]
        return [(name, f"{end:.6g}") for pair in named for name, end in pair if end is not None]

    def value(self, end: str, key: str) -> str:
        """What stands in the field of one end, empty where it is open."""
        return dict(self.fields()).get(f"{end}.{key}", "")

    def within(self) -> tuple[Within, ...]:
        """The same in stored units, for the database."""
        return tuple(_stored(bound) for bound in self.bounds)

    def lines(self, **axes: str) -> list[dict[str, Any]]:
        """Its ends as dashed lines across a figure; `axes`: which key stands on `x` and on `y`."""
        shapes = []
        for axis, key in axes.items():
            other = "y" if axis == "x" else "x"
            ends = [(bound.low, bound.high) for bound in self.bounds if bound.key == key]
            shapes += [
                {
                    "type": "line", f"{axis}ref": axis, f"{other}ref": f"{other} domain",
                    f"{axis}0": end, f"{axis}1": end, f"{other}0": 0, f"{other}1": 1,
                    "line": {"color": LIGHT.highlight, "width": 1.4, "dash": "dash"},
                }
                for pair in ends for end in pair if end is not None
            ]  # fmt: skip
        return shapes


EVERYTHING = Region()


def read_region(fields: Sequence[tuple[str, str]]) -> Region:
    """The bounds among the fields of an address; empty ones are open.

    Raises:
        InvalidInputError: an unknown quantity, or a bound that is no number.
    """
    found: dict[str, dict[str, float]] = {}
    for name, text in fields:
        end, dot, key = name.partition(".")
        if not dot or end not in ("min", "max") or not text.strip():
            continue
        if key != TRIAL and key not in OBJECTIVES:
            known = (*OBJECTIVES, TRIAL)
            raise InvalidInputError(f"filter '{name[:40]}' is of no quantity; {nearest(key, known)}")
        found.setdefault(key, {})[end] = read_bound(name, text)
    return Region(tuple(Bound(key, ends.get("min"), ends.get("max")) for key, ends in sorted(found.items())))


def read_bound(name: str, text: str) -> float:
    """
    Raises:
        InvalidInputError: it is no number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInputError(f"{name[:40]}='{text[:40]}' is no number; leave it empty for no bound")
    return value


def _stored(bound: Bound) -> Within:
    if bound.key == TRIAL:
        return NUMBER, bound.low, bound.high
    scale = OBJECTIVES[bound.key].display_scale
    low, high = (None if end is None else end / scale for end in (bound.low, bound.high))
    return bound.key, low, high
