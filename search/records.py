"""Frozen records of what is stored: the only form in which rows leave `search.storage`."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard, get_args

JobState = Literal["queued", "running", "paused", "stopping", "completed", "failed", "cancelled"]
TrialState = Literal["waiting", "running", "completed", "pruned", "failed", "cancelled"]
JobReason = Literal[
    "budget_reached", "time_reached", "stagnated", "user", "space_exhausted", "infeasible", "disk_full",
    "executor_unavailable", "waiting_for_workers", "internal",
]  # fmt: skip
TrialReason = Literal[
    "invalid_architecture", "invalid_result", "out_of_memory", "timeout", "diverged", "poison",
    "unsupported_operator", "dataset_mismatch", "worker_lost", "internal",
]  # fmt: skip
Origin = Literal["reference", "enqueued", "earlier", "start", "random", "mutation", "crossover", "model"]
EventKind = Literal[
    "job.state", "trial.created", "trial.state", "trial.measured", "front.changed", "indicators.changed",
    "proxy.verdict", "export.state", "warning",
]  # fmt: skip
ArtefactState = Literal["queued", "running", "ready", "failed", "cancelled"]

EARLIER = "earlier_trials"
"""Key of a job's context: results of the job it began with, for programs only."""
DATASET_PATH = "dataset_path"
"""Key of a job's context: the file behind the name of a data set, for programs only."""
OWN_TEACHER = "own_teacher"
"""Key of a job's context: the user's model that teaches its finalists, for programs only."""
FINAL_JOB_STATES: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
FINAL_TRIAL_STATES: frozenset[str] = frozenset({"completed", "pruned", "failed", "cancelled"})
TRIAL_REASONS: frozenset[str] = frozenset(get_args(TrialReason))


def is_trial_reason(text: str) -> TypeGuard[TrialReason]:
    """Whether a text is of the closed list of failure reasons."""
    return text in TRIAL_REASONS


JOB_TRANSITIONS: Mapping[str, frozenset[str]] = {
    "queued": frozenset({"running", "cancelled", "failed"}),
    "running": frozenset({"paused", "stopping", "completed", "failed", "cancelled", "queued"}),
    "paused": frozenset({"running", "stopping", "failed", "cancelled"}),
    "stopping": frozenset({"completed", "failed", "cancelled"}),
}
"""From -> to. `running -> queued` is a coordinator that gave its lease back without finishing."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One search."""

    id: str
    name: str
    tenant: str
    state: JobState
    reason: str | None
    message: str | None
    spec: Mapping[str, Any]
    """The JobSpec as JSON, aliases resolved."""
    objectives: tuple[str, ...]
    """Objective keys in order; the first is the quality objective."""
    context: Mapping[str, Any]
    """Fixed when the job starts: task description, data digest, device, warnings, floors, and later
    `reference_point` and `ideal` (minimised, latency in log)."""
    counters: Mapping[str, int]
    """proposed, duplicates, infeasible, screened_out, ..."""
    indicators: Mapping[str, Any]
    """Latest: hypervolume, reference_hypervolume, speedup_at_equal_quality, schema_version, ..."""
    stage: Literal["search", "final"]
    created_at: dt.datetime
    started_at: dt.datetime | None
    ended_at: dt.datetime | None
    lease_owner: str | None
    lease_until: float | None
    fence: int
    version: int
    """Grows with every change of the row (ETag)."""
    labels: tuple[str, ...] = ()
    """Words a person put on the job."""


@dataclass(frozen=True, slots=True)
class Final:
    """A finalist's numbers: means over seeds on validation, and the test part, used once."""

    seeds: int
    steps: int
    values: Mapping[str, float]
    spread: Mapping[str, "Spread"]
    test: Mapping[str, float]
    test_spread: Mapping[str, "Spread"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spread:
    """An interval around a value: 95 % confidence, from `n` seeds or repeats."""

    low: float
    high: float
    n: int
    kind: Literal["ci95"] = "ci95"


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One architecture in one job. References have negative numbers: -1 is R1."""

    job_id: str
    number: int
    origin: Origin
    parents: tuple[int, ...]
    note: str
    asked_after: int
    """Sequence number of the last event whose results the proposal saw."""
    architecture_id: str
    training_id: str
    architecture: Mapping[str, Any]
    state: TrialState
    reason: str | None
    message: str | None
    attempt: int
    rung: int
    """Rungs completed, 0 before the first."""
    steps: int
    """Training steps completed."""
    values: Mapping[str, float]
    """Every known number by key: objectives, params, macs, memory_bytes, loss, ... (search stage)."""
    spread: Mapping[str, Spread]
    kinds: Mapping[str, str]
    """computed, measured or predicted, per key of `values`."""
    flags: tuple[str, ...]
    final: Final | None
    on_front: bool
    """Not dominated among the counted trials of its group (search or reference)."""
    created_at: dt.datetime
    ended_at: dt.datetime | None

    @property
    def label(self) -> str:
        return f"R{-self.number}" if self.number < 0 else str(self.number)

    @property
    def effective(self) -> Mapping[str, float]:
        """The values that count now: the finalist's where there are any."""
        return {**self.values, **self.final.values} if self.final else self.values

    @property
    def effective_spread(self) -> Mapping[str, Spread]:
        """The intervals of `effective`; a finalist's value never carries the interval of the search's."""
        if not self.final:
            return self.spread
        kept = {key: spread for key, spread in self.spread.items() if key not in self.final.values}
        return {**kept, **self.final.spread}

    @property
    def seeds(self) -> int:
        return self.final.seeds if self.final else 1


@dataclass(frozen=True, slots=True)
class MeasurementRecord:
    """One immutable measured, computed or predicted number; the cache across jobs."""

    subject: str
    """Architecture id, training id or block id."""
    quantity: str
    fingerprint: str
    fidelity: int
    """Training steps; 0 where there is none."""
    seed: int
    value: float | None
    unit: str
    kind: str
    status: str
    spread: float | None
    repeats: int
    execution: str
    flags: tuple[str, ...]
    wall_s: float
    detail: Mapping[str, Any]
    device_key: str
    created_at: dt.datetime


@dataclass(frozen=True, slots=True)
class EventRecord:
    job_id: str
    seq: int
    at: dt.datetime
    kind: EventKind
    trial: int | None
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LoggedWork:
    """Lines of one attempt at one piece of work, oldest first."""

    work: str
    """What was done, as `train/<architecture id>/<steps>/<seed>`."""
    attempt: int
    lines: Sequence[Mapping[str, Any]]
    """`at` (Unix seconds, the worker's clock), `level`, `text`."""


@dataclass(frozen=True, slots=True)
class ArtefactRecord:
    """An export: a folder `path` below the data folder, visible only when `ready`."""

    id: str
    job_id: str
    trial: int
    kind: Literal["export"]
    state: ArtefactState
    request: Mapping[str, Any]
    """formats, quantize, license, stage and steps of the weights, version of the exporter."""
    path: str | None
    size_bytes: int | None
    sha256: str | None
    message: str | None
    report: Mapping[str, Any] | None
    created_at: dt.datetime
    ended_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a listing and the cursor of the next one (None at the end)."""

    items: Sequence[Any]
    next_cursor: str | None
