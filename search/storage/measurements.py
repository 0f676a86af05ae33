"""Measurements: immutable, keyed by (subject, quantity, fingerprint, fidelity, seed), shared by all jobs.

A value is never overwritten: the first row of a key stays, whoever measures again. What changes a number
changes its fingerprint, and that is another key.
"""

import datetime as dt
from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from space.errors import InvalidInputError

from ..records import MeasurementRecord
from .finite import finite_json
from .models import Measurement
from .rows import measurement_record
from .upsert import insert_new

_CHUNK = 500


def put(session: Session, record: MeasurementRecord) -> MeasurementRecord:
    """Stores it unless its key is there; returns what is stored.

    Raises:
        InvalidInputError: a number that is not finite, or a value that does not fit the status.
    """
    if (record.status == "ok") != (record.value is not None):
        raise InvalidInputError(
            f"{record.quantity} of {record.subject}: status '{record.status}' "
            f"does not fit value {record.value}"
        )
    where = f"{record.quantity} of {record.subject}"
    insert_new(
        session,
        Measurement,
        subject=record.subject,
        quantity=record.quantity,
        fingerprint=record.fingerprint,
        fidelity=record.fidelity,
        seed=record.seed,
        value=finite_json(where, record.value),
        unit=record.unit,
        kind=record.kind,
        status=record.status,
        spread=finite_json(f"spread of {where}", record.spread),
        repeats=record.repeats,
        execution=record.execution,
        flags=sorted(record.flags),
        wall_s=finite_json(f"wall_s of {where}", record.wall_s),
        detail=finite_json(f"detail of {where}", record.detail),
        device_key=record.device_key,
        created_at=record.created_at,
    )
    stored = find(session, record.subject, record.quantity, record.fingerprint, record.fidelity, record.seed)
    assert stored is not None
    return stored


def find(
    session: Session, subject: str, quantity: str, fingerprint: str, fidelity: int = 0, seed: int = 0
) -> MeasurementRecord | None:
    """The stored measurement of this key."""
    return find_many(session, [subject], quantity, fingerprint, fidelity, seed).get(subject)


def find_many(
    session: Session,
    subjects: Iterable[str],
    quantity: str,
    fingerprint: str,
    fidelity: int = 0,
    seed: int = 0,
) -> dict[str, MeasurementRecord]:
    """Those of the subjects that have been measured so, by subject."""
    wanted = sorted(set(subjects))
    found: dict[str, MeasurementRecord] = {}
    for start in range(0, len(wanted), _CHUNK):
        query = select(Measurement).where(
            Measurement.subject.in_(wanted[start : start + _CHUNK]),
            Measurement.quantity == quantity,
            Measurement.fingerprint == fingerprint,
            Measurement.fidelity == fidelity,
            Measurement.seed == seed,
        )
        found.update((row.subject, measurement_record(row)) for row in session.scalars(query))
    return found


def newest(
    session: Session,
    quantity: str,
    fingerprint: str,
    *,
    before: dt.datetime,
    limit: int,
) -> Sequence[MeasurementRecord]:
    """The last `limit` values that were stored under a fingerprint before a moment, oldest first."""
    query = (
        select(Measurement)
        .where(
            Measurement.quantity == quantity,
            Measurement.fingerprint == fingerprint,
            Measurement.created_at < before,
            Measurement.value.is_not(None),
        )
        .order_by(Measurement.id.desc())
        .limit(limit)
    )
    return [measurement_record(row) for row in session.scalars(query)][::-1]


def for_subject(session: Session, subject: str) -> Sequence[MeasurementRecord]:
    """Everything known about an architecture, training or block, oldest first."""
    query = select(Measurement).where(Measurement.subject == subject).order_by(Measurement.id)
    return [measurement_record(row) for row in session.scalars(query)]
