"""A database of jobs: one SQLite file (WAL) or a PostgreSQL, opened, migrated, and lent out in transactions.

`read()` sees one consistent state and stores nothing. `write()` is one transaction: on SQLite it takes the
write lock at its beginning (BEGIN IMMEDIATE), so that it never fails half way because somebody else writes;
on PostgreSQL the functions lock the job's row they write to. Only the beginning is repeated when the database
is busy or away.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Literal, TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from space.errors import InvalidInputError, ServiceError, UnavailableError, UnsupportedError

from .engine import (
    Durability,
    Target,
    parse_url,
    postgresql_engine,
    read_side,
    sqlite_backup,
    sqlite_engine,
    write_side,
)
from .fences import CLOCK, take_refusals
from .flushing import GroupedFlush
from .migrate import current_revision, migrate
from .models import SCHEMA_REVISION
from .places import file_system

log = logging.getLogger(__name__)
T = TypeVar("T")

QUICK_CHECK_BYTES = 64 * 2**20
"""Larger files are not read whole at the start; `check` does that."""
RETRY_S = 60.0
"""How long `storing` and `reading` go on trying; a transaction that cannot begin has its own patience."""
_PAUSES_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class DiskFullError(UnavailableError):
    """The database has no room to write; reading still works."""


class Database:
    """Use `Database.open`. One instance serves all threads of a process."""

    def __init__(
        self,
        engine: Engine,
        target: Target,
        data_dir: Path,
        patience_s: float,
        clock: Callable[[], float] | None,
        data_url: str | None = None,
    ) -> None:
        self._engine = engine
        self._target = target
        self._patience_s = patience_s
        self._clock = clock
        self._read_engine = read_side(engine)
        self._write_engine = write_side(engine)
        self._flush: GroupedFlush | None = None
        self._turn = threading.Lock()
        self._holder: int | None = None
        self.data_dir = data_dir
        """Folder of trainings and exports; whoever writes there makes it."""
        self.data_url = data_url
        """Where several machines keep what is in that folder, if they do not share a disk (fsspec)."""
        self.url_shown = target.shown
        """The address without password."""

    @classmethod
    def open(
        cls,
        url: str | Path,
        *,
        durability: Durability = "normal",
        data_dir: Path | None = None,
        data_url: str | None = None,
        patience_s: float = 30.0,
        clock: Callable[[], float] | None = None,
    ) -> "Database":
        """Opens, creates or upgrades a database: `sqlite:///file`, `postgresql://...`, or a file's path.

        `durability="full"` also survives loss of power on SQLite (PostgreSQL always does). `patience_s`: how
        long a transaction waits to begin before UnavailableError.

        Raises:
            InvalidInputError: missing folder, not writable, not a database, damaged, or of a newer program.
            UnavailableError: PostgreSQL does not answer.
        """
        target = parse_url(url)
        if target.file is not None:
            _check_file(target.file)
            kind = file_system(target.file)
            if kind is not None and kind.is_network:
                log.warning("SQLite on a network file system: one process only", extra={"kind": kind.name})
            engine = sqlite_engine(target.file, patience_s)
            default_data = target.file.parent / "paretoformer-data"
        else:
            engine = postgresql_engine(target.url)
            default_data = Path("paretoformer-data").absolute()
        database = cls(engine, target, data_dir or default_data, patience_s, clock, data_url)
        if target.file is not None and durability == "full":
            database._flush = GroupedFlush(Path(f"{target.file}-wal"))
        try:
            database._prepare()
        except BaseException:
            engine.dispose()
            raise
        return database

    def _prepare(self) -> None:
        try:
            with self._engine.connect() as connection:
                if self.dialect == "sqlite":
                    _check_content(connection, self._target)
                revision = current_revision(connection)
            if revision != SCHEMA_REVISION:
                migrate(self._write_engine, shown=self.url_shown)
        except DBAPIError as error:
            raise _opening_error(error, self._target) from error

    @property
    def dialect(self) -> Literal["sqlite", "postgresql"]:
        return "sqlite" if self._target.file is not None else "postgresql"

    @property
    def file(self) -> Path | None:
        """The SQLite file."""
        return self._target.file

    def now(self) -> float:
        """Unix seconds of the clock that leases use: the database's on PostgreSQL, else this machine's."""
        if self._clock is not None:
            return self._clock()
        if self.dialect == "sqlite":
            return time.time()
        with self.read() as session:
            return float(session.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)

    def read(self) -> AbstractContextManager[Session]:
        """A session on one consistent state; changes made in it are dropped.

        Raises:
            UnavailableError: the database does not answer.
        """
        return self._transaction(self._read_engine, is_write=False)

    def write(self) -> AbstractContextManager[Session]:
        """A transaction: stored on exit, undone by an exception. Not to be nested.

        Raises:
            UnavailableError: busy or away for longer than the patience, or lost on the way (then it may or
            may not
                have been stored: repeat the functions, they find what is there). DiskFullError: no room.
        """
        return self._one_writer()

    def storing(self, store: Callable[[Session], T]) -> T:
        """`store` in a `write`, again and again while the database is away, busy or lost on the way. What it
        does may have been stored when it is repeated, so it has to find what is there.

        Raises:
            UnavailableError: for longer than `RETRY_S`. DiskFullError at once.
        """
        return self._repeated(self.write, store)

    def reading(self, look: Callable[[Session], T]) -> T:
        """`look` in a `read`, repeated as `storing` repeats."""
        return self._repeated(self.read, look)

    def _repeated(
        self, transaction: Callable[[], AbstractContextManager[Session]], work: Callable[[Session], T]
    ) -> T:
        end = time.monotonic() + RETRY_S
        for pause in _pauses():
            try:
                with transaction() as session:
                    return work(session)
            except DiskFullError:
                raise
            except UnavailableError as error:
                if time.monotonic() + pause > end:
                    raise
                log.warning("database away, trying again", extra={"problem": error.message})
                time.sleep(pause)
        raise AssertionError("patience has an end")

    @contextmanager
    def _one_writer(self) -> Iterator[Session]:
        """SQLite has one writer: threads of this process queue here, fairly, instead of at the file."""
        if self.dialect == "postgresql":
            with self._transaction(self._write_engine, is_write=True) as session:
                yield session
            return
        if self._holder == threading.get_ident():
            raise RuntimeError("write() inside write(): pass the session on instead")
        if not self._turn.acquire(timeout=self._patience_s):
            raise UnavailableError(
                f"database {self.url_shown} was busy for {self._patience_s:g} s; try again"
            )
        self._holder = threading.get_ident()
        try:
            with self._transaction(self._write_engine, is_write=True) as session:
                yield session
        finally:
            self._holder = None
            self._turn.release()
        if self._flush is not None:
            try:
                self._flush.wait()
            except OSError as error:
                raise self._trouble(error) from error

    @contextmanager
    def _transaction(self, engine: Engine, *, is_write: bool) -> Iterator[Session]:
        session = self._begin(engine)
        try:
            yield session
            if is_write:
                session.add_all(take_refusals(session))
                session.commit()
        except (OperationalError, InterfaceError) as error:
            raise self._trouble(error) from error
        finally:
            with suppress(DBAPIError):
                session.rollback()
            session.close()
            if is_write:
                self._keep_refusals(session)

    def _begin(self, engine: Engine) -> Session:
        """A session whose transaction has begun; waits while the database is busy or away."""
        end = time.monotonic() + self._patience_s
        for pause in _pauses():
            clock = {} if self._clock is None else {CLOCK: self._clock}
            session = Session(engine, expire_on_commit=False, info=clock)
            try:
                session.connection()
            except (OperationalError, InterfaceError, PoolTimeoutError) as error:
                session.close()
                if time.monotonic() + pause > end:
                    raise self._trouble(error) from error
                time.sleep(pause)
            else:
                return session
        raise AssertionError("patience has an end")

    def _keep_refusals(self, session: Session) -> None:
        """Refused writes are kept although their transaction was undone."""
        entries = take_refusals(session)
        if not entries:
            return
        try:
            with self._transaction(self._write_engine, is_write=False) as own:
                own.add_all(entries)
                own.commit()
        except ServiceError:
            log.warning("refused write could not be stored in table audit", exc_info=True)

    def _trouble(self, error: DBAPIError | PoolTimeoutError | OSError) -> UnavailableError:
        line = _first_line(error)
        if "disk is full" in line or "No space left" in line:
            return DiskFullError(f"database {self.url_shown} has no room to write ({line}); free some space")
        return UnavailableError(f"database {self.url_shown} cannot be used now ({line}); try again")

    def backup(self, copy: Path) -> None:
        """A consistent copy, also while others write.

        Raises:
            InvalidInputError: the copy exists or cannot be written.
            UnsupportedError: PostgreSQL has its own tool.
        """
        if self._target.file is None:
            raise UnsupportedError("backup of PostgreSQL is pg_dump's work; run pg_dump on the server")
        sqlite_backup(self._target.file, copy)

    def close(self) -> None:
        """Closes all connections; the instance opens new ones if it is used again."""
        self._engine.dispose()


def _pauses() -> Iterator[float]:
    """Growing, without an end."""
    return chain(_PAUSES_S, repeat(_PAUSES_S[-1]))


def _check_file(file: Path) -> None:
    """The mistakes that can be named before SQLite is asked."""
    if not file.parent.is_dir():
        raise InvalidInputError(
            f"database folder '{file.parent}' does not exist; create it or choose another"
        )
    if file.is_dir():
        raise InvalidInputError(f"database '{file}' is a folder; give the path of a file")


def _check_content(connection: Connection, target: Target) -> None:
    """SQLite's own quick check of a file that is not too large."""
    assert target.file is not None
    if target.file.stat().st_size <= QUICK_CHECK_BYTES:
        answer = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        if answer != "ok":
            raise _damaged(target, answer.splitlines()[0])


def _damaged(target: Target, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"database {target.shown} is damaged ({why}); restore a backup with `paretoformer db restore`, "
        "or move the file away to begin a new one"
    )


def _opening_error(error: DBAPIError, target: Target) -> ServiceError:
    """The one line a person needs, by what went wrong."""
    line = _first_line(error)
    if target.file is None:
        if isinstance(error, OperationalError):
            return UnavailableError(f"database {target.shown} cannot be reached ({line}); check that it runs")
        return InvalidInputError(f"database {target.shown} cannot be used ({line})")
    if "not a database" in line:
        return InvalidInputError(f"'{target.file}' is not an SQLite database; choose another file")
    if "malformed" in line or "disk image" in line:
        return _damaged(target, line)
    if "readonly" in line or "unable to open" in line or "read-only" in line:
        return InvalidInputError(
            f"database {target.shown} cannot be written ({line}); check owner and permissions"
        )
    if "already exists" in line:
        return InvalidInputError(
            f"database {target.shown} belongs to another program ({line}); choose another file"
        )
    return UnavailableError(f"database {target.shown} cannot be opened now ({line}); try again")


def _first_line(error: Exception) -> str:
    origin = getattr(error, "orig", None) or error
    lines = str(origin).strip().splitlines()
    return lines[0] if lines else type(origin).__name__
