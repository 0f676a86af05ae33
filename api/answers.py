"""Records as plain JSON: one shape for `--json`, HTTP and files."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from search.export_files import looks_whole
from search.records import (
    DATASET_PATH,
    EARLIER,
    OWN_TEACHER,
    ArtefactRecord,
    EventRecord,
    Final,
    JobRecord,
    MeasurementRecord,
    Spread,
    TrialRecord,
)
from search.verdicts import KEY, ProxyVerdict, stored

FIXED_COLUMNS = ("trial", "architecture_id", "origin", "number_format", "params", "seeds")
"""Of the columnar and CSV forms of a front; the job's objectives and their intervals follow."""


_INTERNAL = (KEY, DATASET_PATH, EARLIER, OWN_TEACHER)
"""Keys of a job's context that no answer shows."""


class ProxyAnswer(TypedDict):
    """What a job's own trainings say of a proxy: useful, wrong sign or no evidence; rank correlations."""

    proxy: str
    verdict: str
    trainings: int
    tau: float | None
    params_tau: float | None
    partial: float | None
    low: float | None
    high: float | None


class JobAnswer(TypedDict):
    """A search job. `spec` is the job file with its defaults filled in."""

    id: str
    name: str
    state: str
    reason: str | None
    message: str | None
    stage: str
    objectives: list[str]
    labels: list[str]
    spec: dict[str, Any]
    context: dict[str, Any]
    counters: dict[str, int]
    indicators: dict[str, Any]
    proxies: list[ProxyAnswer]
    created_at: str | None
    started_at: str | None
    ended_at: str | None
    version: int


class SpreadAnswer(TypedDict):
    """An interval around a value."""

    low: float
    high: float
    n: int
    kind: str


class PointAnswer(TypedDict):
    """One architecture of a front, in SI units: seconds, bytes, fractions."""

    trial: int
    architecture_id: str
    architecture: dict[str, Any]
    origin: str
    note: str
    state: str
    on_front: bool
    objectives: dict[str, float]
    spread: dict[str, SpreadAnswer]
    kinds: dict[str, str]
    params: float | None
    seeds: int
    steps: int
    test: dict[str, float] | None
    flags: list[str]


class FrontAnswer(TypedDict):
    """A front, fastest first, with what it is compared with. `stage`: search or final."""

    job: JobAnswer
    stage: str
    front: list[PointAnswer]
    references: list[PointAnswer]
    indicators: dict[str, Any]


class ColumnsAnswer(TypedDict):
    """A front as columns: `data` has one inner list per trial."""

    columns: list[str]
    data: list[list[Any]]


class FinalAnswer(TypedDict):
    """A finalist's numbers: means over seeds, and the test part, used once."""

    seeds: int
    steps: int
    values: dict[str, float]
    spread: dict[str, SpreadAnswer]
    test: dict[str, float]
    test_spread: dict[str, SpreadAnswer]


class TrialAnswer(TypedDict):
    """One architecture in one job; references have negative numbers."""

    job: str
    number: int
    label: str
    origin: str
    parents: list[int]
    note: str
    asked_after: int
    architecture_id: str
    training_id: str
    architecture: dict[str, Any]
    state: str
    reason: str | None
    message: str | None
    attempt: int
    rung: int
    steps: int
    values: dict[str, float]
    spread: dict[str, SpreadAnswer]
    kinds: dict[str, str]
    flags: list[str]
    final: FinalAnswer | None
    on_front: bool
    created_at: str | None
    ended_at: str | None


class MeasurementAnswer(TypedDict):
    """An immutable number with its unit and conditions."""

    subject: str
    quantity: str
    fingerprint: str
    fidelity: int
    seed: int
    value: float | None
    unit: str
    kind: str
    status: str
    spread: float | None
    repeats: int
    execution: str
    flags: list[str]
    wall_s: float
    detail: dict[str, Any]
    device_key: str
    created_at: str | None


class TrialDetail(TrialAnswer):
    """A trial with the measurements of its architecture and of its training."""

    measurements: list[MeasurementAnswer]


class EventAnswer(TypedDict):
    """The data of one server-sent event."""

    seq: int
    at: str | None
    kind: str
    trial: int | None
    data: dict[str, Any]


class ExportAnswer(TypedDict):
    """A requested model folder; `sha256` is over its files, `report` what its verification found.

    While it is written `message` says what is done now. `artefact_missing`: it was ready, its files are gone
    or changed.
    """

    id: str
    job: str
    trial: int
    state: str
    formats: list[str]
    quantize: str
    size_bytes: int | None
    sha256: str | None
    message: str | None
    report: dict[str, Any] | None
    artefact_missing: bool
    created_at: str | None
    ended_at: str | None


def job_answer(job: JobRecord) -> JobAnswer:
    """A job as it stands."""
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "reason": job.reason,
        "message": job.message,
        "stage": job.stage,
        "objectives": list(job.objectives),
        "labels": list(job.labels),
        "spec": dict(job.spec),
        "context": {key: value for key, value in job.context.items() if key not in _INTERNAL},
        "counters": dict(job.counters),
        "indicators": dict(job.indicators),
        "proxies": [_proxy_answer(one) for one in stored(job.context)[0]],
        "created_at": moment(job.created_at),
        "started_at": moment(job.started_at),
        "ended_at": moment(job.ended_at),
        "version": job.version,
    }


def _proxy_answer(one: ProxyVerdict) -> ProxyAnswer:
    return {
        "proxy": one.proxy,
        "verdict": one.verdict,
        "trainings": one.trainings,
        "tau": one.tau,
        "params_tau": one.params_tau,
        "partial": one.partial,
        "low": one.low,
        "high": one.high,
    }


def point_answer(job: JobRecord, trial: TrialRecord) -> PointAnswer:
    """One row of a front: what it is, and what is known of it on the job's objectives."""
    keys = [key for key in job.objectives if key in trial.effective]
    return {
        "trial": trial.number,
        "architecture_id": trial.architecture_id,
        "architecture": dict(trial.architecture),
        "origin": trial.origin,
        "note": trial.note,
        "state": trial.state,
        "on_front": trial.on_front,
        "objectives": {key: trial.effective[key] for key in keys},
        "spread": spreads(
            {key: trial.effective_spread[key] for key in keys if key in trial.effective_spread}
        ),
        "kinds": {key: trial.kinds[key] for key in keys if key in trial.kinds},
        "params": trial.values.get("params"),
        "seeds": trial.seeds,
        "steps": trial.final.steps if trial.final else trial.steps,
        "test": dict(trial.final.test) if trial.final else None,
        "flags": list(trial.flags),
    }


def front_answer(
    job: JobRecord, front: Sequence[TrialRecord], references: Sequence[TrialRecord]
) -> FrontAnswer:
    """What `search`, `front` and the front's route say about a job."""
    return {
        "job": job_answer(job),
        "stage": job.stage,
        "front": [point_answer(job, trial) for trial in front],
        "references": [point_answer(job, trial) for trial in references],
        "indicators": dict(job.indicators),
    }


def front_columns(job: JobRecord, front: Sequence[TrialRecord]) -> ColumnsAnswer:
    """{columns: [...], data: [[...]]}: one inner list per trial."""
    names = list(FIXED_COLUMNS)
    for key in job.objectives:
        names += [key, f"{key}_low", f"{key}_high"]
    return {"columns": names, "data": [[_column(trial, name) for name in names] for trial in front]}


def _column(trial: TrialRecord, name: str) -> Any:
    fixed: Mapping[str, Any] = {
        "trial": trial.number,
        "architecture_id": trial.architecture_id,
        "origin": trial.origin,
        "number_format": ",".join(
            sorted({str(layer["number_format"]) for layer in trial.architecture["layers"]})
        ),
        "params": trial.values.get("params"),
        "seeds": trial.seeds,
    }
    if name in fixed:
        return fixed[name]
    key, _, end = name.rpartition("_")
    if end in ("low", "high") and name not in trial.effective:
        spread = trial.effective_spread.get(key)
        return None if spread is None else getattr(spread, end)
    return trial.effective.get(name)


def trial_answer(trial: TrialRecord) -> TrialAnswer:
    """Everything stored of a trial except its measurements."""
    return {
        "job": trial.job_id,
        "number": trial.number,
        "label": trial.label,
        "origin": trial.origin,
        "parents": list(trial.parents),
        "note": trial.note,
        "asked_after": trial.asked_after,
        "architecture_id": trial.architecture_id,
        "training_id": trial.training_id,
        "architecture": dict(trial.architecture),
        "state": trial.state,
        "reason": trial.reason,
        "message": trial.message,
        "attempt": trial.attempt,
        "rung": trial.rung,
        "steps": trial.steps,
        "values": dict(trial.values),
        "spread": spreads(trial.spread),
        "kinds": dict(trial.kinds),
        "flags": list(trial.flags),
        "final": final_answer(trial.final),
        "on_front": trial.on_front,
        "created_at": moment(trial.created_at),
        "ended_at": moment(trial.ended_at),
    }


def final_answer(final: Final | None) -> FinalAnswer | None:
    """A finalist's own numbers."""
    if final is None:
        return None
    return {
        "seeds": final.seeds,
        "steps": final.steps,
        "values": dict(final.values),
        "spread": spreads(final.spread),
        "test": dict(final.test),
        "test_spread": spreads(final.test_spread),
    }


def measurement_answer(record: MeasurementRecord) -> MeasurementAnswer:
    """A stored number with its unit and conditions."""
    return {
        "subject": record.subject,
        "quantity": record.quantity,
        "fingerprint": record.fingerprint,
        "fidelity": record.fidelity,
        "seed": record.seed,
        "value": record.value,
        "unit": record.unit,
        "kind": record.kind,
        "status": record.status,
        "spread": record.spread,
        "repeats": record.repeats,
        "execution": record.execution,
        "flags": list(record.flags),
        "wall_s": record.wall_s,
        "detail": dict(record.detail),
        "device_key": record.device_key,
        "created_at": moment(record.created_at),
    }


def event_answer(event: EventRecord) -> EventAnswer:
    """An event as the stream sends it."""
    return {
        "seq": event.seq,
        "at": moment(event.at),
        "kind": event.kind,
        "trial": event.trial,
        "data": dict(event.data),
    }


def export_answer(export: ArtefactRecord, data_dir: Path | None = None) -> ExportAnswer:
    """An export: what was asked, how it stands, what its verification found. No paths of this machine.

    With the data folder a ready one is looked for there.
    """
    is_lost = export.state == "ready" and data_dir is not None and not looks_whole(data_dir, export)
    return {
        "id": export.id,
        "job": export.job_id,
        "trial": export.trial,
        "state": export.state,
        "formats": list(export.request.get("formats") or ()),
        "quantize": export.request.get("quantize", "none"),
        "size_bytes": export.size_bytes,
        "sha256": export.sha256,
        "message": export.message,
        "report": None if export.report is None else dict(export.report),
        "artefact_missing": is_lost,
        "created_at": moment(export.created_at),
        "ended_at": moment(export.ended_at),
    }


def spreads(found: Mapping[str, Spread]) -> dict[str, SpreadAnswer]:
    """Intervals by key."""
    return {
        key: {"low": spread.low, "high": spread.high, "n": spread.n, "kind": spread.kind}
        for key, spread in found.items()
    }


def moment(value: dt.datetime | None) -> str | None:
    """A time in UTC, ISO 8601."""
    return None if value is None else value.astimezone(dt.UTC).isoformat()
