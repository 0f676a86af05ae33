"""First schema: jobs, trials, architectures, measurements, devices, artefacts, events, keys, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers rows only for INTEGER
_DOCUMENT = sa.JSON(none_as_null=True)
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _jobs()
    _architectures()
    _trials()
    _measurements()
    _events()
    _artefacts()
    _devices()
    _api_keys()
    _idempotency_keys()
    _audit()


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("position", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("spec", _DOCUMENT, nullable=False),
        sa.Column("objectives", _DOCUMENT, nullable=False),
        sa.Column("context", _DOCUMENT, nullable=False),
        sa.Column("counters", _DOCUMENT, nullable=False),
        sa.Column("indicators", _DOCUMENT, nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("started_at", _TIME, nullable=True),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.Column("lease_owner", sa.String(200), nullable=True),
        sa.Column("lease_until", sa.Float(53), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_jobs"),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
    )
    op.create_index("ix_jobs_state_position", "jobs", ["state", "position"])
    op.create_index("ix_jobs_tenant_position", "jobs", ["tenant", "position"])


def _architectures() -> None:
    op.create_table(
        "architectures",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("training_id", sa.String(32), nullable=False),
        sa.Column("canonical_json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_architectures"),
    )


def _trials() -> None:
    op.create_table(
        "trials",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("parents", _DOCUMENT, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("asked_after", sa.BigInteger(), nullable=False),
        sa.Column("architecture_id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("rung", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("values", _DOCUMENT, nullable=False),
        sa.Column("spread", _DOCUMENT, nullable=False),
        sa.Column("kinds", _DOCUMENT, nullable=False),
        sa.Column("flags", _DOCUMENT, nullable=False),
        sa.Column("final", _DOCUMENT, nullable=True),
        sa.Column("objective_0", sa.Float(53), nullable=True),
        sa.Column("objective_1", sa.Float(53), nullable=True),
        sa.Column("objective_2", sa.Float(53), nullable=True),
        sa.Column("objective_3", sa.Float(53), nullable=True),
        sa.Column("counted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("on_front", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_trials"),
        sa.ForeignKeyConstraint(
            ["architecture_id"], ["architectures.id"], name="fk_trials_architecture_id_architectures"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_trials_job_id_jobs", ondelete="CASCADE"),
        sa.UniqueConstraint("job_id", "number", name="uq_trials_job_id_number"),
    )
    op.create_index("ix_trials_architecture_id", "trials", ["architecture_id"])
    op.create_index(
        "ix_trials_front",
        "trials",
        ["job_id", "number"],
        sqlite_where=sa.text("on_front = 1"),
        postgresql_where=sa.text("on_front"),
    )
    op.create_index("ix_trials_job_id_state", "trials", ["job_id", "state"])


def _measurements() -> None:
    op.create_table(
        "measurements",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("quantity", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("fidelity", sa.BigInteger(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Float(53), nullable=True),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("spread", sa.Float(53), nullable=True),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("execution", sa.String(16), nullable=False),
        sa.Column("flags", _DOCUMENT, nullable=False),
        sa.Column("wall_s", sa.Float(53), nullable=False),
        sa.Column("detail", _DOCUMENT, nullable=False),
        sa.Column("device_key", sa.String(200), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
        sa.UniqueConstraint(
            "subject",
            "quantity",
            "fingerprint",
            "fidelity",
            "seed",
            name="uq_measurements_subject_quantity_fingerprint_fidelity_seed",
        ),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=True),
        sa.Column("data", _DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "seq", name="pk_events"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_events_job_id_jobs", ondelete="CASCADE"),
    )


def _artefacts() -> None:
    op.create_table(
        "artefacts",
        sa.Column("position", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("request", _DOCUMENT, nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(64), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("report", _DOCUMENT, nullable=True),
        sa.Column("claim_owner", sa.String(200), nullable=True),
        sa.Column("claim_until", sa.Float(53), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("position", name="pk_artefacts"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_artefacts_job_id_jobs", ondelete="CASCADE"),
        sa.UniqueConstraint("id", name="uq_artefacts_id"),
    )
    op.create_index("ix_artefacts_job_id_position", "artefacts", ["job_id", "position"])
    op.create_index("ix_artefacts_state_position", "artefacts", ["state", "position"])


def _devices() -> None:
    op.create_table(
        "devices",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("facts", _DOCUMENT, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_devices"),
    )


def _api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("position", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("revoked_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("position", name="pk_api_keys"),
        sa.UniqueConstraint("id", name="uq_api_keys_id"),
    )


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("reply", _DOCUMENT, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("fence_given", sa.BigInteger(), nullable=False),
        sa.Column("fence_current", sa.BigInteger(), nullable=False),
        sa.Column("detail", _DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_job_id", "audit", ["job_id"])
