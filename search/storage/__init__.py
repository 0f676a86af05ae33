"""Storage: SQLite or PostgreSQL behind functions that take a session and return records."""

from . import (
    architectures,
    artefacts,
    devices,
    events,
    idempotency,
    jobs,
    keys,
    measurements,
    trials,
)
from .check import check
from .database import Database, DiskFullError

__all__ = [
    "Database",
    "DiskFullError",
    "architectures",
    "artefacts",
    "check",
    "devices",
    "events",
    "idempotency",
    "jobs",
    "keys",
    "measurements",
    "trials",
]
