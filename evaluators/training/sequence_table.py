"""Sequence classification from a table: a row per sequence, with a `label`.

`.csv`: every other column is one value, in the order of the columns. `.jsonl` and `.parquet`: a column
`values` with a list of numbers (or of lists of numbers, one per channel), or a column `tokens` with a list of
token ids.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from space.errors import InvalidInputError

from .arrays import array_task
from .data import Array, TaskData
from .tables import Row, label_of, need_columns, read_rows


def sequence_table(path: Path, length: int | None) -> TaskData:
    """The table as a sequence task.

    Raises:
        InvalidInputError: no column with the sequences, something else than numbers, or unequal lengths.
    """
    del length  # the rows decide
    rows = read_rows(path)
    need_columns(path, rows, ("label",))
    inputs = _columns(path, rows) if path.suffix.lower() == ".csv" else _lists(path, rows)
    labels = np.array([label_of(row) for row in rows])
    return array_task(path.name, "sequence", {"x": inputs, "y": labels}, where=f"'{path}'")


def _columns(path: Path, rows: Sequence[Row]) -> Array:
    names = [name for name in rows[0].values if name != "label"]
    if not names:
        raise InvalidInputError(f"'{path}' has no column beside 'label'; give every value a column")
    return np.array([[_number(row, name, row.values[name]) for name in names] for row in rows], np.float64)


def _lists(path: Path, rows: Sequence[Row]) -> Array:
    name = "tokens" if "tokens" in rows[0].values else "values"
    need_columns(path, rows, (name, "label"))
    wanted = np.int64 if name == "tokens" else np.float64
    first: tuple[int, ...] | None = None
    sequences = []
    for row in rows:
        sequence = _array(row, name)
        if name == "tokens" and (sequence.dtype.kind != "i" or sequence.ndim != 1):
            raise InvalidInputError(f"{row.where}: tokens are integers in one list; use 'values' for others")
        first = sequence.shape if first is None else first
        if sequence.shape != first:
            raise InvalidInputError(
                f"{row.where} has {_shape(sequence.shape)}, {rows[0].where.rpartition(', ')[2]} "
                f"{_shape(first)}; cut or fill all to one length"
            )
        sequences.append(sequence.astype(wanted))
    return np.stack(sequences)


def _array(row: Row, name: str) -> Array:
    """A row's sequence: [tokens] or [tokens, channels]."""
    found = row.values.get(name)
    try:
        sequence = np.array(found)
    except ValueError:
        sequence = np.empty(0, dtype=object)  # lists of unequal length
    if not isinstance(found, list) or sequence.ndim not in (1, 2) or sequence.dtype.kind not in "if":
        raise InvalidInputError(
            f"{row.where}: '{name}' is no list of numbers, nor one of equally long lists; write it as one"
        )
    return sequence


def _shape(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} values" if len(shape) == 1 else f"{shape[0]} values of {shape[1]} channels"


def _number(row: Row, name: str, cell: object) -> float:
    try:
        number = float(str(cell))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInputError(f"{row.where}: '{name}' is {cell!r}; every value is a finite number")
    return number
