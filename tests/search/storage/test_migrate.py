import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from search.storage.database import Database
from search.storage.engine import sqlite_engine, write_side
from search.storage.migrate import MIGRATIONS, current_revision, migrate
from search.storage.models import SCHEMA_REVISION, VERSION_TABLE, Base
from space.errors import InvalidInputError

NEXT = """
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = "9999", "{head}", None, None

def upgrade() -> None:
    op.add_column("jobs", sa.Column("novelty", sa.Integer()))
    {then}
"""


def folder_with_another_revision(tmp_path: Path, then: str = "pass") -> Path:
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9999_next.py").write_text(NEXT.format(head=SCHEMA_REVISION, then=then))
    return folder


def columns_of_jobs(file: Path) -> set[str]:
    connection = sqlite3.connect(file)
    names = {row[1] for row in connection.execute("PRAGMA table_info(jobs)")}
    connection.close()
    return names


def test_the_programs_revision_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]


def test_migrations_give_the_schema_of_the_models(db: Database) -> None:
    with db.read() as session:
        connection = session.connection()
        options = {"version_table": VERSION_TABLE, "compare_server_default": True, "render_as_batch": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
        inspector = inspect(connection)
        for table in Base.metadata.sorted_tables:
            stored = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
            assert stored == {column.name: column.nullable for column in table.columns}
            wanted = {index.name for index in table.indexes}
            assert wanted <= {index["name"] for index in inspector.get_indexes(table.name)}
        assert current_revision(connection) == SCHEMA_REVISION


def test_f33_an_older_file_is_copied_and_upgraded(sqlite: Database, tmp_path: Path) -> None:
    assert sqlite.file is not None
    engine = write_side(sqlite_engine(sqlite.file, 5))
    migrate(engine, shown="a.db", folder=folder_with_another_revision(tmp_path))
    engine.dispose()
    assert "novelty" in columns_of_jobs(sqlite.file)
    copy = sqlite.file.with_name(f"{sqlite.file.name}.{SCHEMA_REVISION}.backup")
    assert "novelty" not in columns_of_jobs(copy)
    Database.open(copy).close()


def test_f33_a_newer_file_is_refused(sqlite: Database, tmp_path: Path) -> None:
    assert sqlite.file is not None
    engine = write_side(sqlite_engine(sqlite.file, 5))
    migrate(engine, shown="a.db", folder=folder_with_another_revision(tmp_path))
    engine.dispose()
    with pytest.raises(
        InvalidInputError, match=f"schema 9999, this program knows schemas up to {SCHEMA_REVISION}"
    ):
        Database.open(sqlite.file)


def test_f34_a_migration_that_fails_leaves_the_old_schema(sqlite: Database, tmp_path: Path) -> None:
    assert sqlite.file is not None
    folder = folder_with_another_revision(tmp_path, then="raise RuntimeError('power cut')")
    engine = write_side(sqlite_engine(sqlite.file, 5))
    with pytest.raises(RuntimeError, match="power cut"):
        migrate(engine, shown="a.db", folder=folder)
    engine.dispose()
    assert "novelty" not in columns_of_jobs(sqlite.file)
    Database.open(sqlite.file).close()


@pytest.mark.slow
def test_f34_a_kill_within_a_migration_leaves_the_old_schema(sqlite: Database, tmp_path: Path) -> None:
    assert sqlite.file is not None
    folder = folder_with_another_revision(tmp_path, then="import os; os.kill(os.getpid(), 9)")
    program = textwrap.dedent(
        f"""
        from pathlib import Path
        from search.storage.engine import sqlite_engine, write_side
        from search.storage.migrate import migrate
        engine = write_side(sqlite_engine(Path({str(sqlite.file)!r}), 5))
        migrate(engine, shown="", folder=Path({str(folder)!r}))
        """
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert "novelty" not in columns_of_jobs(sqlite.file)
    Database.open(sqlite.file).close()


@pytest.mark.slow
def test_processes_that_open_a_new_file_at_once_migrate_it_once(tmp_path: Path) -> None:
    program = f"from search.storage.database import Database; Database.open({str(tmp_path / 'new.db')!r})"
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    database = Database.open(tmp_path / "new.db")
    with database.read() as session:
        assert session.scalar(text(f"SELECT count(*) FROM {VERSION_TABLE}")) == 1
    database.close()
