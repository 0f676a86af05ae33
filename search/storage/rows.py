"""Row -> frozen record, one function per table."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from ..records import (
    ArtefactRecord,
    ArtefactState,
    EventKind,
    EventRecord,
    Final,
    JobRecord,
    JobState,
    MeasurementRecord,
    Origin,
    Spread,
    TrialRecord,
    TrialState,
)
from .models import Architecture, Artefact, Event, Job, Measurement, Trial, TrialRow
from .stored_json import parse_json


def job_record(row: Job) -> JobRecord:
    return JobRecord(
        id=row.id,
        name=row.name,
        tenant=row.tenant,
        state=cast(JobState, row.state),
        reason=row.reason,
        message=row.message,
        spec=row.spec,
        objectives=tuple(row.objectives),
        context=row.context,
        counters=row.counters,
        indicators=row.indicators,
        stage="final" if row.stage == "final" else "search",
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        lease_owner=row.lease_owner,
        lease_until=row.lease_until,
        fence=row.fence,
        version=row.version,
        labels=tuple(row.labels.split()),
    )


def trial_record(row: Trial | TrialRow, architecture: Architecture | TrialRow) -> TrialRecord:
    return TrialRecord(
        job_id=row.job_id,
        number=row.number,
        origin=cast(Origin, row.origin),
        parents=tuple(row.parents),
        note=row.note,
        asked_after=row.asked_after,
        architecture_id=row.architecture_id,
        training_id=architecture.training_id,
        architecture=parse_json(architecture.canonical_json),
        state=cast(TrialState, row.state),
        reason=row.reason,
        message=row.message,
        attempt=row.attempt,
        rung=row.rung,
        steps=row.steps,
        values=row.values,
        spread=spreads(row.spread),
        kinds=row.kinds,
        flags=tuple(row.flags),
        final=None if row.final is None else final_of(row.final),
        on_front=row.on_front,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def spreads(data: Mapping[str, Any]) -> dict[str, Spread]:
    return {key: Spread(**value) for key, value in data.items()}


def final_of(data: Mapping[str, Any]) -> Final:
    return Final(
        seeds=data["seeds"],
        steps=data["steps"],
        values=data["values"],
        spread=spreads(data["spread"]),
        test=data["test"],
        test_spread=spreads(data["test_spread"]),
    )


def spread_json(data: Mapping[str, Spread]) -> dict[str, Any]:
    return {key: asdict(value) for key, value in data.items()}


def final_json(final: Final) -> dict[str, Any]:
    return {
        "seeds": final.seeds,
        "steps": final.steps,
        "values": dict(final.values),
        "spread": spread_json(final.spread),
        "test": dict(final.test),
        "test_spread": spread_json(final.test_spread),
    }


def measurement_record(row: Measurement) -> MeasurementRecord:
    return MeasurementRecord(
        subject=row.subject,
        quantity=row.quantity,
        fingerprint=row.fingerprint,
        fidelity=row.fidelity,
        seed=row.seed,
        value=row.value,
        unit=row.unit,
        kind=row.kind,
        status=row.status,
        spread=row.spread,
        repeats=row.repeats,
        execution=row.execution,
        flags=tuple(row.flags),
        wall_s=row.wall_s,
        detail=row.detail,
        device_key=row.device_key,
        created_at=row.created_at,
    )


def event_record(row: Event) -> EventRecord:
    return EventRecord(
        job_id=row.job_id,
        seq=row.seq,
        at=row.at,
        kind=cast(EventKind, row.kind),
        trial=row.trial,
        data=row.data,
    )


def artefact_record(row: Artefact) -> ArtefactRecord:
    return ArtefactRecord(
        id=row.id,
        job_id=row.job_id,
        trial=row.trial,
        kind="export",
        state=cast(ArtefactState, row.state),
        request=row.request,
        path=row.path,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        message=row.message,
        report=row.report,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def utc(now: float) -> dt.datetime:
    """Unix seconds -> aware time."""
    return dt.datetime.fromtimestamp(now, dt.UTC)
