"""Brings a database to the schema of this program: all of it in one transaction, or nothing.

An older SQLite file is copied to `<file>.<revision>.backup` first. A database with a revision this program
does not know was written by a newer one and is left alone.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from space.errors import InvalidInputError

from .engine import sqlite_backup
from .models import VERSION_TABLE

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_KEY = 7_361_250_941
"""PostgreSQL advisory lock: one program migrates at a time."""


def current_revision(connection: Connection) -> str | None:
    """Revision of the schema that is there; None in a database without our tables."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return revision


def migrate(engine: Engine, *, shown: str, folder: Path = MIGRATIONS) -> None:
    """Upgrades to the newest revision in `folder`; `engine` begins transactions that write.

    Raises:
        InvalidInputError: the schema is newer than this program.
    """
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    head = script.get_current_head()
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        current = current_revision(connection)
        if current == head:
            return
        if current is not None and current not in known:
            raise InvalidInputError(
                f"database {shown} has schema {current}, this program knows schemas up to {head}; "
                "upgrade paretoformer, or choose another database"
            )
        if current is not None and engine.dialect.name == "sqlite":
            file = Path(str(engine.url.database))
            sqlite_backup(file, _backup_path(file, current))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _backup_path(file: Path, revision: str) -> Path:
    """A name that is free: an earlier attempt may have left its copy."""
    names = [
        f"{file.name}.{revision}.backup",
        *(f"{file.name}.{revision}.{n}.backup" for n in range(1, 1000)),
    ]
    return next(path for path in map(file.with_name, names) if not path.exists())
