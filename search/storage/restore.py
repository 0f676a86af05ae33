"""A backup put in the place of an SQLite database: checked first, what stood there kept aside."""

import os
import shutil
import sqlite3
import uuid
from pathlib import Path

from space.errors import ConflictError, InvalidInputError

from .check import check
from .database import Database
from .engine import sqlite_backup

_SIDE_FILES = ("-wal", "-shm")


def restore(backup: Path, file: Path, *, force: bool = False) -> Path | None:
    """Puts a copy of `backup` at `file`; returns where an earlier database was put aside, if there was one.

    The copy is opened, migrated and checked before anything is moved.

    Raises:
        InvalidInputError: no backup there, damaged, of a newer program, or with faults.
        ConflictError: there is a database and `force` is not given, or a process has it open.
    """
    if not backup.is_file():
        raise InvalidInputError(f"backup '{backup}' does not exist; name the file that `db backup` wrote")
    if file.exists() and backup.samefile(file):
        raise InvalidInputError(f"'{file}' is the database itself; name the backup")
    if file.exists() and not force:
        raise ConflictError(f"database '{file}' exists; --force puts it aside and takes the backup")
    draft = file.with_name(f".{file.name}.restore-{uuid.uuid4().hex[:8]}")
    try:
        _checked_copy(backup, draft)
        if file.exists():
            _check_unused(file)
        aside = _put_aside(file) if file.exists() else None
        os.replace(draft, file)
    finally:
        for path in (draft, *(draft.with_name(draft.name + end) for end in _SIDE_FILES)):
            path.unlink(missing_ok=True)
    return aside


def _checked_copy(backup: Path, draft: Path) -> None:
    """Through SQLite, so that what is still in the backup's log comes along."""
    sqlite_backup(backup, draft)
    database = Database.open(draft)
    try:
        faults = check(database)
    finally:
        database.close()
    if faults:
        raise InvalidInputError(f"backup '{backup}' has faults ({faults[0]}); take an older one")
    for leftover in draft.parent.glob(f"{draft.name}.*.backup"):  # of its migration: the backup itself stays
        leftover.unlink()


def _check_unused(file: Path) -> None:
    """A process that has the file open would go on writing to what is put aside.

    Leaving the write-ahead log needs the file alone; what is put aside is then one file.

    Raises:
        ConflictError: a process has it open.
    """
    connection = sqlite3.connect(file, timeout=0)
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        primary = error.sqlite_errorcode & 0xFF  # the rest says how: SQLITE_BUSY_RECOVERY and others
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise ConflictError(
                f"database '{file}' is open in another process; end serve, worker and search first"
            ) from error
    except sqlite3.DatabaseError:  # damaged: that is what a backup is for
        return
    finally:
        connection.close()


def _put_aside(file: Path) -> Path:
    names = (file.with_name(f"{file.name}.before-restore{n or ''}") for n in range(1000))
    aside = next(path for path in names if not path.exists())
    for end in ("", *_SIDE_FILES):
        part = file.with_name(file.name + end)
        if part.exists():
            shutil.move(part, aside.with_name(aside.name + end))
    return aside
