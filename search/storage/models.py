"""The tables. Rows never leave this package: functions hand out the frozen records of `search.records`.

    jobs 1--* trials *--1 architectures      jobs 1--* events      jobs 1--* artefacts
    jobs *--* datasets (job_datasets)        api_keys 1--* sessions
    measurements, devices, idempotency_keys, audit, user_actions, server_secrets: for themselves

A trial keeps its numbers as JSON and, beside it, the minimised objective vector (`objective_0` ...) that the
front is kept from. Names of constraints and indexes follow one convention, so that migrations can name them.
"""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

SCHEMA_REVISION = "0003"
"""The newest migration in `migrations/versions`."""
VERSION_TABLE = "paretoformer_alembic_version"
MAX_OBJECTIVES = 4

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
_Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only for INTEGER
_Document = JSON(none_as_null=True)


class UtcDateTime(TypeDecorator[dt.datetime]):
    """Aware times in, UTC in the table, aware UTC times out; SQLite forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; use aware times")
        return value.astimezone(dt.UTC)

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=_NAMES)


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_tenant_position", "tenant", "position"),
        Index("ix_jobs_state_position", "state", "position"),
        Index("ix_jobs_tenant_state_position", "tenant", "state", "position"),
    )

    position: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    """Order of creation; times do not order anything."""
    id: Mapped[str] = mapped_column(String(32), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    tenant: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str | None] = mapped_column(Text)
    spec: Mapped[dict[str, Any]] = mapped_column(_Document)
    objectives: Mapped[list[str]] = mapped_column(_Document)
    context: Mapped[dict[str, Any]] = mapped_column(_Document)
    counters: Mapped[dict[str, int]] = mapped_column(_Document)
    indicators: Mapped[dict[str, Any]] = mapped_column(_Document)
    stage: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[float | None] = mapped_column(Float(53))
    fence: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    """Sequence number of the job's newest event."""
    labels: Mapped[str] = mapped_column(Text, server_default=" ", default=" ")
    """Words between single spaces, with one before the first and one after the last; a space if none."""


class Architecture(Base):
    __tablename__ = "architectures"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    training_id: Mapped[str] = mapped_column(String(32))
    canonical_json: Mapped[str] = mapped_column(Text)


class Trial(Base):
    __tablename__ = "trials"
    __table_args__ = (
        UniqueConstraint("job_id", "number"),
        Index(
            "ix_trials_front",
            "job_id",
            "number",
            sqlite_where=text("on_front = 1"),
            postgresql_where=text("on_front"),
        ),
        Index("ix_trials_job_id_state", "job_id", "state"),
        Index("ix_trials_architecture_id", "architecture_id"),
    )

    id: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    origin: Mapped[str] = mapped_column(String(16))
    parents: Mapped[list[int]] = mapped_column(_Document)
    note: Mapped[str] = mapped_column(Text)
    asked_after: Mapped[int] = mapped_column(BigInteger)
    architecture_id: Mapped[str] = mapped_column(ForeignKey("architectures.id"))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str | None] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column(Integer)
    rung: Mapped[int] = mapped_column(Integer)
    steps: Mapped[int] = mapped_column(Integer)
    values: Mapped[dict[str, float]] = mapped_column(_Document)
    spread: Mapped[dict[str, Any]] = mapped_column(_Document)
    kinds: Mapped[dict[str, str]] = mapped_column(_Document)
    flags: Mapped[list[str]] = mapped_column(_Document)
    final: Mapped[dict[str, Any] | None] = mapped_column(_Document)
    objective_0: Mapped[float | None] = mapped_column(Float(53))
    objective_1: Mapped[float | None] = mapped_column(Float(53))
    objective_2: Mapped[float | None] = mapped_column(Float(53))
    objective_3: Mapped[float | None] = mapped_column(Float(53))
    counted: Mapped[bool] = mapped_column(Boolean, server_default=false())
    """Completed, with every objective known and every latency measured."""
    on_front: Mapped[bool] = mapped_column(Boolean, server_default=false())
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class TrialLog(Base):
    """What a worker logged during one attempt at a piece of work."""

    __tablename__ = "trial_logs"
    __table_args__ = (UniqueConstraint("job_id", "trial", "work", "attempt"),)

    id: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    trial: Mapped[int] = mapped_column(Integer)
    work: Mapped[str] = mapped_column(String(200))
    attempt: Mapped[int] = mapped_column(Integer)
    lines: Mapped[list[dict[str, Any]]] = mapped_column(_Document)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class Measurement(Base):
    __tablename__ = "measurements"
    __table_args__ = (UniqueConstraint("subject", "quantity", "fingerprint", "fidelity", "seed"),)

    id: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    subject: Mapped[str] = mapped_column(String(200))
    quantity: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[str] = mapped_column(String(64))
    fidelity: Mapped[int] = mapped_column(BigInteger)
    seed: Mapped[int] = mapped_column(BigInteger)
    value: Mapped[float | None] = mapped_column(Float(53))
    unit: Mapped[str] = mapped_column(String(32))
    kind: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    spread: Mapped[float | None] = mapped_column(Float(53))
    repeats: Mapped[int] = mapped_column(Integer)
    execution: Mapped[str] = mapped_column(String(16))
    flags: Mapped[list[str]] = mapped_column(_Document)
    wall_s: Mapped[float] = mapped_column(Float(53))
    detail: Mapped[dict[str, Any]] = mapped_column(_Document)
    device_key: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class Event(Base):
    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    kind: Mapped[str] = mapped_column(String(32))
    trial: Mapped[int | None] = mapped_column(Integer)
    data: Mapped[dict[str, Any]] = mapped_column(_Document)


class Artefact(Base):
    __tablename__ = "artefacts"
    __table_args__ = (
        Index("ix_artefacts_job_id_position", "job_id", "position"),
        Index("ix_artefacts_state_position", "state", "position"),
    )

    position: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    trial: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    request: Mapped[dict[str, Any]] = mapped_column(_Document)
    path: Mapped[str | None] = mapped_column(Text)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
    message: Mapped[str | None] = mapped_column(Text)
    report: Mapped[dict[str, Any] | None] = mapped_column(_Document)
    claim_owner: Mapped[str | None] = mapped_column(String(200))
    claim_until: Mapped[float | None] = mapped_column(Float(53))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class Device(Base):
    __tablename__ = "devices"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    facts: Mapped[dict[str, Any]] = mapped_column(_Document)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class ApiKey(Base):
    __tablename__ = "api_keys"

    position: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    tenant: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    scopes: Mapped[str] = mapped_column(String(100), server_default="read write admin")
    expires_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[dt.datetime | None] = mapped_column(UtcDateTime)


class BrowserSession(Base):
    """A browser that showed a key once; its cookie is stored as a hash only."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_expires_at", "expires_at"),)

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class ServerSecret(Base):
    """Random bytes that all servers of a database share: they sign cursors and form tokens with them."""

    __tablename__ = "server_secrets"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[str] = mapped_column(String(64))


class IdempotencyKey(Base):
    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_created_at", "created_at"),)

    tenant: Mapped[str] = mapped_column(String(200), primary_key=True)
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    status: Mapped[int] = mapped_column(Integer)
    reply: Mapped[dict[str, Any]] = mapped_column(_Document)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class Audit(Base):
    """Writes that were refused because their fence was old."""

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_job_id", "job_id"),)

    id: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    job_id: Mapped[str] = mapped_column(String(32))
    action: Mapped[str] = mapped_column(String(64))
    fence_given: Mapped[int] = mapped_column(BigInteger)
    fence_current: Mapped[int] = mapped_column(BigInteger)
    detail: Mapped[dict[str, Any]] = mapped_column(_Document)


class UserAction(Base):
    """Who did what over HTTP."""

    __tablename__ = "user_actions"
    __table_args__ = (Index("ix_user_actions_tenant_id", "tenant", "id"),)

    id: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    tenant: Mapped[str] = mapped_column(String(200))
    key_id: Mapped[str | None] = mapped_column(String(32))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(32))
    detail: Mapped[dict[str, Any]] = mapped_column(_Document)


class Dataset(Base):
    """An uploaded file below the data folder; the same bytes are stored once per tenant."""

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("tenant", "sha256", "format"),
        Index("ix_datasets_tenant_position", "tenant", "position"),
    )

    position: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    tenant: Mapped[str] = mapped_column(String(200))
    name: Mapped[str] = mapped_column(String(200))
    format: Mapped[str] = mapped_column(String(16))
    path: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    facts: Mapped[dict[str, Any]] = mapped_column(_Document)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)


class JobDataset(Base):
    """A data set that a job uses stays: the reference has no cascade."""

    __tablename__ = "job_datasets"
    __table_args__ = (Index("ix_job_datasets_dataset_id", "dataset_id"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)


@dataclass(slots=True, kw_only=True)
class TrialRow:
    """A row of `trials` without the ORM, with its architecture; what has a default is what may change."""

    job_id: str
    number: int
    origin: str
    parents: list[int]
    note: str
    asked_after: int
    architecture_id: str
    created_at: dt.datetime
    state: str = "waiting"
    reason: str | None = None
    message: str | None = None
    attempt: int = 0
    rung: int = 0
    steps: int = 0
    values: dict[str, float] = field(default_factory=dict)
    spread: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    final: dict[str, Any] | None = None
    objective_0: float | None = None
    objective_1: float | None = None
    objective_2: float | None = None
    objective_3: float | None = None
    counted: bool = False
    on_front: bool = False
    ended_at: dt.datetime | None = None
    training_id: str
    canonical_json: str
