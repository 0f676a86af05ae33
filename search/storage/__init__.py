"""Storage: SQLite or PostgreSQL behind functions that take a session and return records."""

from . import (
    architectures,
    artefacts,
    datasets,
    devices,
    events,
    idempotency,
    jobs,
    keys,
    logs,
    measurements,
    server_secrets,
    sessions,
    trials,
    user_actions,
)
from .check import check
from .database import Database, DiskFullError

__all__ = [
    "Database",
    "DiskFullError",
    "architectures",
    "artefacts",
    "check",
    "datasets",
    "devices",
    "events",
    "idempotency",
    "jobs",
    "keys",
    "logs",
    "measurements",
    "server_secrets",
    "sessions",
    "trials",
    "user_actions",
]
