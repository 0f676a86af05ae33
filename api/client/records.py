"""What a server answers, as frozen records. Fields that a newer server adds are ignored, not refused."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

_FINAL_JOB = frozenset({"completed", "failed", "cancelled"})
_FINAL_EXPORT = frozenset({"ready", "failed", "cancelled", "artefact_missing"})


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Spread(_Record):
    """An interval around a value."""

    low: float
    high: float
    n: int
    kind: str


class Job(_Record):
    """A search job as it stands."""

    id: str
    name: str
    state: str
    reason: str | None
    message: str | None
    stage: str
    objectives: tuple[str, ...]
    labels: tuple[str, ...] = ()
    spec: Mapping[str, Any]
    counters: Mapping[str, int]
    indicators: Mapping[str, Any]
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    version: int

    @property
    def is_over(self) -> bool:
        return self.state in _FINAL_JOB

    @property
    def budget(self) -> int:
        """Trials the job may make."""
        return int(self.spec.get("budget", {}).get("trials", 0))

    @property
    def etag(self) -> str:
        """For `If-Match`."""
        return f'"{self.version}"'


class Point(_Record):
    """One architecture of a front, in SI units: seconds, bytes, fractions."""

    trial: int
    architecture_id: str
    architecture: Mapping[str, Any]
    origin: str
    note: str
    state: str
    on_front: bool
    objectives: Mapping[str, float]
    spread: Mapping[str, Spread]
    kinds: Mapping[str, str]
    params: float | None
    seeds: int
    steps: int
    test: Mapping[str, float] | None
    flags: tuple[str, ...]


class Front(_Record):
    """A front, fastest first, with the references it is compared with."""

    job: Job
    stage: str
    front: tuple[Point, ...]
    references: tuple[Point, ...]
    indicators: Mapping[str, Any]


class Trial(_Record):
    """One architecture in one job; references have negative numbers."""

    job: str
    number: int
    label: str
    origin: str
    parents: tuple[int, ...]
    architecture_id: str
    architecture: Mapping[str, Any]
    state: str
    reason: str | None
    message: str | None
    attempt: int
    rung: int
    steps: int
    values: Mapping[str, float]
    spread: Mapping[str, Spread]
    kinds: Mapping[str, str]
    flags: tuple[str, ...]
    on_front: bool
    created_at: dt.datetime
    ended_at: dt.datetime | None
    measurements: tuple[Mapping[str, Any], ...] = ()
    """Filled where one trial was asked for, empty in listings."""


class Event(_Record):
    """Something that happened in a job; `seq` counts 1, 2, 3, ... without gaps."""

    seq: int
    at: dt.datetime
    kind: str
    trial: int | None
    data: Mapping[str, Any]


class Export(_Record):
    """A requested model folder."""

    id: str
    job: str
    trial: int
    state: str
    formats: tuple[str, ...]
    quantize: str
    size_bytes: int | None
    sha256: str | None
    message: str | None
    report: Mapping[str, Any] | None
    created_at: dt.datetime
    ended_at: dt.datetime | None

    @property
    def is_over(self) -> bool:
        return self.state in _FINAL_EXPORT


class Dataset(_Record):
    """An uploaded file; `dataset` is its name in `task.dataset`."""

    id: str
    dataset: str
    name: str
    format: str
    size_bytes: int
    sha256: str
    facts: Mapping[str, Any]
    created_at: dt.datetime
