"""Rows of a user's table: a `.csv` with a header, a `.jsonl` with an object per line, or a `.parquet`."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from space.errors import InvalidInputError

SUFFIXES = (".csv", ".jsonl", ".parquet")
MAX_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Row:
    """Column -> value; `where` names the row in messages."""

    where: str
    values: Mapping[str, object]


def read_rows(path: Path) -> Sequence[Row]:
    """Every row of the file, at least one.

    Raises:
        InvalidInputError: too large, unreadable, not of the format its name says, or empty.
    """
    try:
        size = path.stat().st_size
        raw = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise InvalidInputError(f"'{path}' cannot be read: {error.strerror}") from error
    if size > MAX_BYTES:
        raise InvalidInputError(f"'{path}' has {size:,} bytes; at most {MAX_BYTES:,}: name a smaller file")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        rows = _parquet_rows(path, raw)
    else:
        text = decoded(path, raw)
        rows = _csv_rows(path, text) if suffix == ".csv" else _jsonl_rows(path, text)
    if not rows:
        raise InvalidInputError(f"'{path}' has no row; a table needs one per example")
    return rows


def decoded(path: Path, raw: bytes) -> str:
    """UTF-8 text, without a byte-order mark.

    Raises:
        InvalidInputError: not UTF-8; the message has the first wrong byte.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"'{path}' is not UTF-8 text (byte {error.start}); convert it") from error


def need_columns(path: Path, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Raises InvalidInputError unless the table has these columns."""
    there = list(dict.fromkeys(name for row in rows[:100] for name in row.values))
    if any(name not in there for name in names):
        needed = " and ".join(f"'{name}'" for name in names)
        raise InvalidInputError(
            f"'{path}' has the columns {', '.join(there[:20]) or 'none'}; it needs {needed}"
        )


def label_of(row: Row) -> str:
    """The class of a row.

    Raises:
        InvalidInputError: no label, or one that is neither text nor an integer.
    """
    label = row.values.get("label")
    if not isinstance(label, (str, int)) or label == "":
        raise InvalidInputError(
            f"{row.where} has the label {label!r}; a class is a text or an integer: name one or drop the row"
        )
    return str(label)


def _csv_rows(path: Path, text: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(reader, [])
        repeated = [name for name in header if header.count(name) > 1]
        if repeated:
            raise InvalidInputError(
                f"'{path}' has the column '{repeated[0]}' {header.count(repeated[0])} times; rename one"
            )
        rows = []
        for cells in reader:
            if not cells:
                continue
            where = f"'{path}', line {reader.line_num}"
            if len(cells) != len(header):
                raise InvalidInputError(
                    f"{where} has {len(cells)} cells, the header {len(header)}; quote texts with commas"
                )
            rows.append(Row(where, dict(zip(header, cells, strict=True))))
        return rows
    except csv.Error as error:
        raise InvalidInputError(f"'{path}', line {reader.line_num}: {error}; write it anew as CSV") from error


def _jsonl_rows(path: Path, text: str) -> list[Row]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"'{path}', line {number}"
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InvalidInputError(f"{where} is not JSON; write one object per line") from error
        if not isinstance(record, dict):
            raise InvalidInputError(f"{where} is no object; write one with a 'label' per line")
        rows.append(Row(where, record))
    return rows


def _parquet_rows(path: Path, raw: bytes) -> list[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        records = parquet.read_table(io.BytesIO(raw)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        told = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise InvalidInputError(f"'{path}' is not a Parquet file: {told}; write it anew") from error
    return [Row(f"'{path}', row {number}", record) for number, record in enumerate(records, start=1)]
