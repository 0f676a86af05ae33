"""What a reader chose to see of a job, and its permalink: which axes, which scale, growth over what."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlencode

from search.objectives import OBJECTIVES
from search.records import JobRecord, TrialRecord
from space.errors import InvalidInputError, nearest

from .region import EVERYTHING, Region, read_region

Over = Literal["trials", "time", "steps"]
Zoom = tuple[float, float, float, float]
"""x from, x to, y from, y to, in the units of the axes."""
OVER_WORDS: tuple[tuple[Over, str], ...] = (
    ("trials", "counted trials"),
    ("time", "time"),
    ("steps", "training spent"),
)


@dataclass(frozen=True, slots=True)
class Selection:
    """State of the charts of a job page."""

    x: str
    y: str
    linear: bool = False
    """No logarithmic axes."""
    over: Over = "trials"
    zoom: Zoom | None = None
    """What part of the plane; None: all of it."""
    region: Region = EVERYTHING
    """What every chart is filtered by."""

    def query(self, job: JobRecord) -> str:
        """The permalink's query: what differs from the page as it opens; with `?` or empty."""
        ordinary = default_selection(job)
        chosen = {
            name: value
            for name, value in (("x", self.x), ("y", self.y), ("over", self.over))
            if value != getattr(ordinary, name)
        }
        if self.linear:
            chosen["scale"] = "linear"
        if self.zoom:
            chosen["zoom"] = ",".join(f"{end:.6g}" for end in self.zoom)
        chosen |= dict(self.region.fields())
        return f"?{urlencode(chosen, safe=',')}" if chosen else ""

    def is_default(self, job: JobRecord) -> bool:
        """Whether the axes are those on which speed-ups are stated."""
        return (self.x, self.y) == (default_selection(job).x, default_selection(job).y)


def default_selection(job: JobRecord) -> Selection:
    """Quality against the first cost."""
    return Selection(job.objectives[1], job.objectives[0])


def read_selection(
    job: JobRecord,
    *,
    x: str = "",
    y: str = "",
    scale: str = "",
    over: str = "trials",
    zoom: str = "",
    fields: Sequence[tuple[str, str]] = (),
) -> Selection:
    """The selection of a permalink; empty texts are the defaults. `fields`: all of it, for the filter.

    Raises:
        InvalidInputError: unknown key, scale or growth, or a part of the plane that is none.
    """
    ordinary = default_selection(job)
    for name, key in (("x", x), ("y", y)):
        if key and key not in OBJECTIVES:
            raise InvalidInputError(f"{name}='{key[:40]}' is no axis; {nearest(key, OBJECTIVES)}")
    if scale not in ("", "log", "linear"):
        raise InvalidInputError(f"scale='{scale[:40]}' is none; {nearest(scale, ('log', 'linear'))}")
    if over not in get_args(Over):
        raise InvalidInputError(f"over='{over[:40]}' is none; {nearest(over, get_args(Over))}")
    found: Over = next(word for word in get_args(Over) if word == over)
    return Selection(
        x or ordinary.x, y or ordinary.y, scale == "linear", found, _zoom(zoom), read_region(fields)
    )


def _zoom(text: str) -> Zoom | None:
    if not text:
        return None
    try:
        ends = [float(part) for part in text.split(",")]
    except ValueError:
        ends = []
    if len(ends) != 4 or not all(map(math.isfinite, ends)) or ends[0] >= ends[1] or ends[2] >= ends[3]:
        raise InvalidInputError(
            f"zoom='{text[:60]}' is no part of the plane; write four numbers, as zoom=0.1,2,1.5,3"
        )
    return (ends[0], ends[1], ends[2], ends[3])


def axis_keys(job: JobRecord, trials: Iterable[TrialRecord]) -> tuple[list[str], list[str]]:
    """(the job's objectives, other quantities that some trial has), for the choice of axes."""
    known = {key for trial in trials for key in trial.effective}
    return list(job.objectives), [key for key in OBJECTIVES if key in known and key not in job.objectives]
