"""Devices: what is known about a machine and runtime, by the key that measurements carry."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from space.errors import NotFoundError

from .fences import clock
from .finite import finite_json
from .models import Device
from .rows import utc
from .upsert import insert_new


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    key: str
    facts: Mapping[str, Any]
    """CPU model, cores, runtime and version, operating system, reference latency, ..."""
    created_at: dt.datetime
    updated_at: dt.datetime


def put(session: Session, key: str, facts: Mapping[str, Any], now: float | None = None) -> DeviceRecord:
    """Stores a device or brings its facts up to date; keys of `facts` that are not named stay."""
    moment = utc(clock(session, now))
    insert_new(session, Device, key=key, facts={}, created_at=moment, updated_at=moment)
    row = session.get_one(Device, key, with_for_update=True)
    row.facts = {**row.facts, **finite_json("facts", facts)}
    row.updated_at = moment
    session.flush()
    return _record(row)


def get(session: Session, key: str) -> DeviceRecord:
    """
    Raises:
        NotFoundError: nothing was ever measured there.
    """
    row = session.get(Device, key)
    if row is None:
        raise NotFoundError(f"device '{key[:64]}' does not exist; `paretoformer device list` lists them")
    return _record(row)


def list_devices(session: Session) -> Sequence[DeviceRecord]:
    """By key."""
    return [_record(row) for row in session.scalars(select(Device).order_by(Device.key))]


def _record(row: Device) -> DeviceRecord:
    return DeviceRecord(row.key, row.facts, row.created_at, row.updated_at)
