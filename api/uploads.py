"""Uploaded data sets on disk: received in pieces, looked at without running anything in them, put in place.

    <data>/datasets/.part-<random>  ->  checked, flushed  ->  <data>/datasets/data_<id><suffix>  ->  row

A crash on the way leaves a file without a row, which `remove_strays` takes away ten minutes later.
"""

import csv
import errno
import hashlib
import json
import os
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from uuid import uuid4

from fastapi.concurrency import run_in_threadpool

from search.storage import datasets
from search.storage.database import Database, DiskFullError
from search.storage.datasets import DatasetRecord
from search.workers.store import store_of
from space.errors import InvalidInputError

FOLDER = "datasets"
STRAY_S = 600.0
MAX_ARRAYS = 4
MAX_COLUMNS = 1000
MAX_UNPACKED = 2**32
_SAMPLE = 2**16
_PART = ".part-"

Format = Literal["npz", "csv", "jsonl", "parquet", "text"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: Mapping[Format, str] = {
    "npz": ".npz",
    "csv": ".csv",
    "jsonl": ".jsonl",
    "parquet": ".parquet",
    "text": ".txt",
}
MEDIA_TYPES: Mapping[str, Format] = {
    "application/x-npz": "npz",
    "text/csv": "csv",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/vnd.apache.parquet": "parquet",
    "text/plain": "text",
}
ANY_MEDIA_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Received:
    """A whole body on disk, under a temporary name."""

    part: Path
    size_bytes: int
    sha256: str


async def receive(stream: AsyncIterator[bytes], data_dir: Path, room: int) -> Received:
    """Writes a body to a temporary file; removes it if anything goes wrong.

    Raises:
        InvalidInputError: empty, or more than `room` bytes.
        DiskFullError: the disk has no room.
    """
    folder = data_dir / FOLDER
    await run_in_threadpool(folder.mkdir, parents=True, exist_ok=True)
    part, size, digest = folder / f"{_PART}{uuid4().hex}", 0, hashlib.sha256()
    try:
        with part.open("xb") as file:
            async for piece in stream:
                size += len(piece)
                if size > room:
                    raise InvalidInputError(f"the upload has more than the {room:,} bytes that are left")
                digest.update(piece)
                await run_in_threadpool(file.write, piece)
            file.flush()
            await run_in_threadpool(os.fsync, file.fileno())
        if not size:
            raise InvalidInputError("the upload is empty; send the file as the body")
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError("the server's disk is full: nothing was stored; try again later") from error
        raise
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return Received(part, size, digest.hexdigest())


def keep(
    database: Database, got: Received, *, tenant: str, name: str, format: Format
) -> tuple[DatasetRecord, bool]:
    """Checks the file, puts it in its place and stores its row; the tenant's same file only once.

    Returns the data set, and whether it is new.

    Raises:
        InvalidInputError: not of the format it is said to have.
    """
    try:
        facts = inspect(got.part, format)
        dataset_id = uuid4().hex
        file = got.part.with_name(f"{datasets.PREFIX}{dataset_id}{SUFFIXES[format]}")
        got.part.rename(file)
    except BaseException:
        got.part.unlink(missing_ok=True)
        raise
    _flush_folder(file.parent)
    store_of(database).publish_file(f"{FOLDER}/{file.name}")
    with database.write() as session:
        record = datasets.put(
            session,
            dataset_id=dataset_id,
            tenant=tenant,
            name=name,
            format=format,
            path=f"{FOLDER}/{file.name}",
            size_bytes=got.size_bytes,
            sha256=got.sha256,
            facts=facts,
        )
    is_new = record.id == dataset_id
    if not is_new:  # the same bytes: what is known may be of a time or a machine without the shared store
        os.replace(file, database.data_dir / record.path)
        store_of(database).publish_file(record.path)
        store_of(database).remove(f"{FOLDER}/{file.name}")
    remove_strays(database)
    return record, is_new


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_strays(database: Database, now: float | None = None) -> int:
    """Removes files of uploads that were never finished, and of data sets that were deleted."""
    folder = database.data_dir / FOLDER
    if not folder.is_dir():
        return 0
    old = (time.time() if now is None else now) - STRAY_S
    found = {}
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.name.startswith((_PART, datasets.PREFIX)) and path.lstat().st_mtime < old:
                found[f"{FOLDER}/{path.name}"] = path
    if not found:
        return 0
    with database.read() as session:
        strays = datasets.without_row(session, found)
    for name in strays:
        found[name].unlink(missing_ok=True)
    return len(strays)


def inspect(file: Path, format: Format) -> dict[str, Any]:
    """What a look at the file shows. A job that names it reads it whole and checks every row.

    Raises:
        InvalidInputError: it is not of that format.
    """
    look: Mapping[Format, Callable[[Path], dict[str, Any]]] = {
        "npz": _npz,
        "csv": _csv,
        "jsonl": _jsonl,
        "parquet": _parquet,
        "text": _text,
    }
    return look[format](file)


def _npz(file: Path) -> dict[str, Any]:
    """Headers of the arrays only; Python objects are refused unread."""
    from numpy.lib import format as npy

    arrays: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ARRAYS or sum(entry.file_size for entry in entries) > MAX_UNPACKED:
                raise InvalidInputError(
                    f"the .npz holds {len(entries)} arrays of {sum(e.file_size for e in entries):,} bytes; "
                    f"at most {MAX_ARRAYS} and {MAX_UNPACKED:,} are taken"
                )
            for entry in entries:
                with archive.open(entry) as stream:
                    version = npy.read_magic(stream)
                    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, dtype = read(stream)
                if dtype.hasobject:
                    raise InvalidInputError(
                        f"array '{entry.filename[:60]}' holds Python objects; store numbers"
                    )
                arrays[entry.filename.removesuffix(".npy")[:60]] = {
                    "shape": list(shape),
                    "dtype": str(dtype),
                }
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError) as error:
        raise InvalidInputError("the body is not an .npz file; write it with numpy.savez") from error
    return {"arrays": arrays}


def _csv(file: Path) -> dict[str, Any]:
    _whole_text(file)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        try:
            columns = next(csv.reader(stream), [])
        except csv.Error as error:
            raise InvalidInputError(f"the body is not CSV: {error}; write it anew") from error
    return _columns(columns)


def _jsonl(file: Path) -> dict[str, Any]:
    _whole_text(file)
    with file.open(encoding="utf-8-sig") as stream:
        line = stream.readline(_SAMPLE)
    try:
        first = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(
            "the first line is not a JSON object; write one per line, shorter than 64 KiB"
        ) from error
    if not isinstance(first, dict):
        raise InvalidInputError("the first line is JSON but no object; write one per line")
    return _columns(list(first))


def _columns(columns: list[str]) -> dict[str, Any]:
    if not 1 <= len(columns) <= MAX_COLUMNS:
        raise InvalidInputError(f"the table has {len(columns)} columns; 1 to {MAX_COLUMNS} are taken")
    return {"columns": [name[:100] for name in columns]}


def _parquet(file: Path) -> dict[str, Any]:
    import pyarrow
    from pyarrow import parquet

    try:
        found = parquet.read_metadata(file)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InvalidInputError("the body is not a Parquet file; write it anew") from error
    return {**_columns(list(found.schema.names)), "rows": found.num_rows}


def _text(file: Path) -> dict[str, Any]:
    return {"characters": _whole_text(file)}


def _whole_text(file: Path) -> int:
    """Characters of a UTF-8 file.

    Raises:
        InvalidInputError: other bytes in it, or a NUL.
    """
    count = 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            while piece := stream.read(2**20):
                count += len(piece)
                if "\0" in piece:
                    raise InvalidInputError("the body has NUL characters: it is no text; choose its format")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"the body is not UTF-8 text (byte {error.start} of a piece); convert it"
        ) from error
    return count
