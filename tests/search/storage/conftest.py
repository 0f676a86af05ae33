"""Databases for the conformance tests: a new SQLite file, or an emptied PostgreSQL."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from search.records import JobRecord
from search.storage import jobs
from search.storage.database import Database
from search.storage.models import Base
from space.architecture import Architecture, parse_architecture


@pytest.fixture(scope="session")
def used_postgresql(postgresql_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """With what the tests before have left in it."""
    database = Database.open(postgresql_url, data_dir=tmp_path_factory.mktemp("data"), patience_s=10)
    yield database
    database.close()


@pytest.fixture
def postgresql(used_postgresql: Database) -> Database:
    tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with used_postgresql.write() as session:
        session.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    return used_postgresql


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    file = tmp_path_factory.mktemp("sqlite") / "empty.db"
    Database.open(file).close()
    return file


@pytest.fixture
def sqlite(empty_file: Path, tmp_path: Path) -> Iterator[Database]:
    file = tmp_path / "paretoformer.db"
    shutil.copyfile(empty_file, file)
    database = Database.open(file)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest) -> Database:
    """Each test that asks for it runs on both engines."""
    database: Database = request.getfixturevalue(request.param)
    return database


@pytest.fixture(scope="session")
def architecture_of() -> Callable[[int], Architecture]:
    """A different small architecture for every number."""

    def build(number: int) -> Architecture:
        feed_forward = {"kind": "mlp", "activation": "relu", "d_ff": 8 + number}
        layer = {
            "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": 1},
            "feed_forward": feed_forward,
            "norm": {"kind": "rmsnorm"},
            "number_format": "int8_dynamic",
        }
        return parse_architecture(
            {
                "model": "decoder",
                "interface": {"input": "bytes", "context_length": 16, "outputs": 256},
                "d_model": 8,
                "position": {"kind": "rope"},
                "layers": [layer],
                "final_norm": {"kind": "rmsnorm"},
                "head": {"kind": "language"},
            }
        )

    return build


@pytest.fixture
def running_job(db: Database) -> JobRecord:
    """A job leased to its creator, two objectives."""
    return new_job(db)


@pytest.fixture
def sqlite_job(sqlite: Database) -> JobRecord:
    return new_job(sqlite)


@pytest.fixture
def new_running_job() -> Callable[[Database], JobRecord]:
    """The same in any database, as often as wanted."""
    return new_job


def new_job(database: Database) -> JobRecord:
    with database.write() as session:
        return jobs.create(
            session,
            name="a search",
            spec={"budget": {"trials": 2}},
            objectives=["bits_per_byte", "latency_s"],
            now=1000.0,
            lease=("me", 1015.0),
        )
