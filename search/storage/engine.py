"""Engines of the two databases: how addresses are read, connections set up, transactions begun."""

import math
import select
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from space.errors import InvalidInputError, nearest

from .stored_json import parse_json, to_json

Durability = Literal["normal", "full"]
_WRITES = "paretoformer_writes"
_STATEMENT_LIMIT_S = 60
_IDLE_SINCE = "idle_since"
_TRUSTED_S = 5.0
"""A connection that was used within so many seconds is not asked whether it lives."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a database is: a file, or a server's address."""

    url: URL
    file: Path | None
    shown: str


def parse_url(url: str | Path) -> Target:
    """
    Raises:
        InvalidInputError: not an address, another database, or one in memory (threads could not share it).
    """
    if isinstance(url, Path) or "://" not in url:
        return _file_target(str(url))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise InvalidInputError(
            "database address is not a URL; write sqlite:///file or postgresql://..."
        ) from error
    kind = parsed.get_backend_name()
    if kind == "sqlite" and parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return _file_target(parsed.database or "")
    if kind in ("postgresql", "postgres") and parsed.drivername in (kind, "postgresql+psycopg"):
        parsed = parsed.set(drivername="postgresql+psycopg")
        return Target(parsed, None, parsed.set(drivername="postgresql").render_as_string(hide_password=True))
    raise InvalidInputError(
        f"unknown database '{parsed.drivername}'; {nearest(parsed.drivername, ['sqlite', 'postgresql'])}"
    )


def _file_target(name: str) -> Target:
    if name in ("", ":memory:") or name.startswith("file:"):
        raise InvalidInputError(
            f"database '{name}' is not a file's path; give one, for example paretoformer.db"
        )
    if "\x00" in name:
        raise InvalidInputError("database path contains a NUL character; give the path of a file")
    file = Path(name).expanduser().absolute()
    return Target(URL.create("sqlite", database=str(file)), file, str(file))


def sqlite_engine(file: Path, patience_s: float) -> Engine:
    """Write-ahead log, foreign keys on, transactions begun by us (the driver would begin them too late).

    A commit survives the death of any process; `GroupedFlush` makes it survive a loss of power.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(file)),
        connect_args={"timeout": patience_s},
        pool_size=10,
        max_overflow=40,
        pool_timeout=patience_s,
        json_serializer=to_json,
        json_deserializer=parse_json,
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL").close()
        connection.execute("PRAGMA synchronous=NORMAL").close()
        connection.execute("PRAGMA foreign_keys=ON").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def postgresql_engine(url: URL) -> Engine:
    """psycopg 3; statements have a time limit, connections are tried before use.

    Trying is a question to the server where one has been idle for a while, or where its socket has something
    to say, which is its end mostly. To ask every time costs a round trip a transaction.
    """
    limits = (
        {} if "options" in url.query else {"options": f"-c statement_timeout={_STATEMENT_LIMIT_S * 1000}"}
    )
    engine = create_engine(
        url,
        isolation_level="READ COMMITTED",  # whatever the server's default; here it is set once a connection
        connect_args={"connect_timeout": 5, **limits},
        pool_size=10,
        max_overflow=20,
        pool_timeout=5,
        json_serializer=to_json,
        json_deserializer=parse_json,
    )

    @event.listens_for(engine, "checkin")
    def _note_time(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info[_IDLE_SINCE] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _try(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        idle_s = time.monotonic() - record.info.get(_IDLE_SINCE, math.inf)
        try:
            if idle_s > _TRUSTED_S or _has_word(connection):
                engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    return engine


def _has_word(connection: Any) -> bool:
    """Whether something has come from the server that nobody has asked for."""
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return bool(waiting.poll(0))


def read_side(engine: Engine) -> Engine:
    """One consistent state for a whole transaction."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine


def write_side(engine: Engine) -> Engine:
    if engine.dialect.name == "postgresql":
        return engine
    return engine.execution_options(**{_WRITES: True})


def sqlite_backup(file: Path, copy: Path) -> None:
    """Copies through SQLite, which sees a consistent state.

    Raises:
        InvalidInputError: the copy exists or cannot be written.
    """
    if copy.exists():
        raise InvalidInputError(f"backup '{copy}' exists; choose another name")
    if not copy.parent.is_dir():
        raise InvalidInputError(f"backup folder '{copy.parent}' does not exist; create it first")
    source = sqlite3.connect(file)
    try:
        target = sqlite3.connect(copy)
        try:
            source.backup(target)
        finally:
            target.close()
    except sqlite3.Error as error:
        raise InvalidInputError(
            f"backup '{copy}' cannot be written ({error}); choose another place"
        ) from error
    finally:
        source.close()
