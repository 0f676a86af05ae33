"""Text classification from a `.csv` or `.jsonl` file with the columns `text` and `label`.

A text is its UTF-8 bytes, cut at the task's length or filled with byte 0. The fill is an ordinary token: the
trained model and the exported file, which takes no mask, see the same. So every batch has one length, which
mixers that transform the whole axis (dft, dct) ask for; what they compute depends on the fill.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from space.errors import InvalidInputError

from .arrays import array_task
from .data import TaskData

MIN_LENGTH, MAX_DEFAULT_LENGTH = 16, 512
MAX_BYTES = 2**30

Rows = Sequence[tuple[str, str]]
"""(text, label)."""


def labelled_text_path(path: Path, length: int | None) -> TaskData:
    """The file as a task; default length: the power of two that holds nine of ten texts, at most 512."""
    rows = read_rows(path)
    texts = [text.encode("utf-8", "replace") for text, _ in rows]
    length = _default_length(texts) if length is None else length
    tokens = np.zeros((len(texts), length), dtype=np.int32)
    for row, text in zip(tokens, texts, strict=True):
        cut = text[:length]
        row[: len(cut)] = np.frombuffer(cut, dtype=np.uint8)
    arrays = {"x": tokens, "y": np.array([label for _, label in rows])}
    return array_task(path.name, "text-classification", arrays, where=f"'{path}'", vocab_size=256)


def read_rows(path: Path) -> Rows:
    """(text, label) of every row.

    Raises:
        InvalidInputError: another format, not UTF-8, a missing column, or a row without text or label.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInputError(f"'{path}' has more than {MAX_BYTES:,} bytes; name a smaller file")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"'{path}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"'{path}' is not UTF-8 text (byte {error.start}); convert it") from error
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _jsonl_rows(path, text)
    if not rows:
        raise InvalidInputError(f"'{path}' has no row; give it rows with 'text' and 'label'")
    return rows


def _csv_rows(path: Path, text: str) -> Rows:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        missing = {"text", "label"} - set(reader.fieldnames or ())
        if missing:
            raise InvalidInputError(
                f"'{path}' has the columns {', '.join(reader.fieldnames or ()) or 'none'}; "
                "it needs 'text' and 'label'"
            )
        return [_row(path, reader.line_num, record) for record in reader]
    except csv.Error as error:
        raise InvalidInputError(f"'{path}', line {reader.line_num}: {error}") from error


def _jsonl_rows(path: Path, text: str) -> Rows:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InvalidInputError(
                f"'{path}', line {number} is not JSON; write one object per line"
            ) from error
        rows.append(_row(path, number, record))
    return rows


def _row(path: Path, number: int, record: object) -> tuple[str, str]:
    if isinstance(record, dict):
        text, label = record.get("text"), record.get("label")
        if isinstance(text, str) and isinstance(label, (str, int)):
            return text, str(label)
    raise InvalidInputError(
        f"'{path}', line {number} has no 'text' string with a 'label' (string or integer); "
        "add both or drop the line"
    )


def _default_length(texts: Sequence[bytes]) -> int:
    typical = float(np.percentile([len(text) for text in texts], 90))
    length = MIN_LENGTH
    while length < min(typical, MAX_DEFAULT_LENGTH):
        length *= 2
    return length
