"""Records as plain JSON: one shape for `--json`, HTTP and files."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from search.records import (
    ArtefactRecord,
    EventRecord,
    Final,
    JobRecord,
    MeasurementRecord,
    Spread,
    TrialRecord,
)

FIXED_COLUMNS = ("trial", "architecture_id", "origin", "number_format", "params", "seeds")
"""Of the columnar and CSV forms of a front; the job's objectives and their intervals follow."""


def job_answer(job: JobRecord) -> dict[str, Any]:
    """A job as it stands, without its indicators."""
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "reason": job.reason,
        "message": job.message,
        "stage": job.stage,
        "objectives": list(job.objectives),
        "spec": dict(job.spec),
        "context": dict(job.context),
        "counters": dict(job.counters),
        "created_at": moment(job.created_at),
        "started_at": moment(job.started_at),
        "ended_at": moment(job.ended_at),
        "version": job.version,
    }


def point_answer(job: JobRecord, trial: TrialRecord) -> dict[str, Any]:
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
        "spread": spreads({key: trial.effective_spread[key] for key in keys if key in trial.effective_spread}),
        "kinds": {key: trial.kinds[key] for key in keys if key in trial.kinds},
        "params": trial.values.get("params"),
        "seeds": trial.seeds,
        "steps": trial.final.steps if trial.final else trial.steps,
        "test": dict(trial.final.test) if trial.final else None,
        "flags": list(trial.flags),
    }


def front_answer(
    job: JobRecord, front: Sequence[TrialRecord], references: Sequence[TrialRecord]
) -> dict[str, Any]:
    """What `search`, `front` and the front's route say about a job."""
    return {
        "job": job_answer(job),
        "stage": job.stage,
        "front": [point_answer(job, trial) for trial in front],
        "references": [point_answer(job, trial) for trial in references],
        "indicators": dict(job.indicators),
    }


def front_columns(job: JobRecord, front: Sequence[TrialRecord]) -> dict[str, list[Any]]:
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


def trial_answer(trial: TrialRecord) -> dict[str, Any]:
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


def final_answer(final: Final | None) -> dict[str, Any] | None:
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


def measurement_answer(record: MeasurementRecord) -> dict[str, Any]:
    """A stored number with its unit and conditions."""
    return {
        **{name: getattr(record, name) for name in MeasurementRecord.__slots__},
        "flags": list(record.flags),
        "detail": dict(record.detail),
        "created_at": moment(record.created_at),
    }


def event_answer(event: EventRecord) -> dict[str, Any]:
    """An event as the stream sends it."""
    return {
        "seq": event.seq,
        "at": moment(event.at),
        "kind": event.kind,
        "trial": event.trial,
        "data": dict(event.data),
    }


def export_answer(export: ArtefactRecord) -> dict[str, Any]:
    """An export: what was asked, how it stands, what its verification found. No paths of this machine."""
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
        "created_at": moment(export.created_at),
        "ended_at": moment(export.ended_at),
    }


def spreads(found: Mapping[str, Spread]) -> dict[str, dict[str, Any]]:
    """Intervals by key."""
    return {key: asdict(spread) for key, spread in found.items()}


def moment(value: dt.datetime | None) -> str | None:
    """A time in UTC, ISO 8601."""
    return None if value is None else value.astimezone(dt.UTC).isoformat()
