"""Access and data over HTTP: scopes and ends of keys, sessions, who did what, uploaded data sets, labels."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers rows only for INTEGER
_DOCUMENT = sa.JSON(none_as_null=True)
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    _columns()
    _datasets()
    _sessions()
    _server_secrets()
    _user_actions()


def _columns() -> None:
    """Only additions with defaults: a program of the schema before can go on writing."""
    op.add_column("jobs", sa.Column("labels", sa.Text(), server_default=" ", nullable=False))
    op.create_index("ix_jobs_tenant_state_position", "jobs", ["tenant", "state", "position"])
    op.add_column(
        "api_keys", sa.Column("scopes", sa.String(100), server_default="read write admin", nullable=False)
    )
    op.add_column("api_keys", sa.Column("expires_at", _TIME, nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", _TIME, nullable=True))


def _datasets() -> None:
    op.create_table(
        "datasets",
        sa.Column("position", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("facts", _DOCUMENT, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("position", name="pk_datasets"),
        sa.UniqueConstraint("id", name="uq_datasets_id"),
        sa.UniqueConstraint("tenant", "sha256", "format", name="uq_datasets_tenant_sha256_format"),
    )
    op.create_index("ix_datasets_tenant_position", "datasets", ["tenant", "position"])
    op.create_table(
        "job_datasets",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("dataset_id", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "dataset_id", name="pk_job_datasets"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_job_datasets_job_id_jobs", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name="fk_job_datasets_dataset_id_datasets"),
    )
    op.create_index("ix_job_datasets_dataset_id", "job_datasets", ["dataset_id"])


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_sessions"),
    )
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])


def _server_secrets() -> None:
    op.create_table(
        "server_secrets",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_server_secrets"),
    )


def _user_actions() -> None:
    op.create_table(
        "user_actions",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=True),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("detail", _DOCUMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user_actions"),
    )
    op.create_index("ix_user_actions_tenant_id", "user_actions", ["tenant", "id"])
