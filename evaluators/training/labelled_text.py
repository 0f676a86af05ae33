"""Text classification from a table with the columns `text` and `label`, or a folder of text files by class.

A text is its UTF-8 bytes, cut at the task's length or filled with byte 0. The fill is an ordinary token: the
trained model and the exported file, which takes no mask, see the same. So every batch has one length, which
mixers that transform the whole axis (dft, dct) ask for; what they compute depends on the fill.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from space.errors import InvalidInputError

from .arrays import array_task
from .class_folders import class_files
from .data import Array, TaskData
from .tables import MAX_BYTES, Row, decoded, label_of, need_columns, read_rows

MIN_LENGTH, MAX_DEFAULT_LENGTH = 16, 512

Texts = Sequence[tuple[str, str]]
"""(text, label)."""


def labelled_text_path(path: Path, length: int | None) -> TaskData:
    """The data as a task; default length: the power of two that holds nine of ten texts, at most 512."""
    parts = _folder_texts(path) if path.is_dir() else {"": _table_texts(path)}
    encoded = {
        suffix: [text.encode("utf-8", "replace") for text, _ in texts] for suffix, texts in parts.items()
    }
    if length is None:
        length = _default_length([text for texts in encoded.values() for text in texts])
    arrays: dict[str, Array] = {}
    for suffix, texts in parts.items():
        arrays[f"x{suffix}"] = _tokens(encoded[suffix], length)
        arrays[f"y{suffix}"] = np.array([label for _, label in texts])
    return array_task(path.name, "text-classification", arrays, where=f"'{path}'", vocab_size=256)


def _tokens(texts: Sequence[bytes], length: int) -> Array:
    tokens = np.zeros((len(texts), length), dtype=np.int32)
    for row, text in zip(tokens, texts, strict=True):
        cut = text[:length]
        row[: len(cut)] = np.frombuffer(cut, dtype=np.uint8)
    return tokens


def _table_texts(path: Path) -> Texts:
    rows = read_rows(path)
    need_columns(path, rows, ("text", "label"))
    return [(_text_of(row), label_of(row)) for row in rows]


def _text_of(row: Row) -> str:
    text = row.values.get("text")
    if not isinstance(text, str):
        raise InvalidInputError(f"{row.where} has the text {text!r}; write a text or drop the row")
    return text


def _folder_texts(path: Path) -> Mapping[str, Texts]:
    found = class_files(path)
    files = [file for examples in found.values() for file, _ in examples]
    total = sum(file.stat().st_size for file in files)
    if total > MAX_BYTES:
        raise InvalidInputError(f"'{path}' has {total:,} bytes; at most {MAX_BYTES:,}: leave some files out")
    return {suffix: [(_read(file), label) for file, label in examples] for suffix, examples in found.items()}


def _read(file: Path) -> str:
    try:
        return decoded(file, file.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"'{file}' cannot be read: {error.strerror}") from error


def _default_length(texts: Sequence[bytes]) -> int:
    typical = float(np.percentile([len(text) for text in texts], 90))
    length = MIN_LENGTH
    while length < min(typical, MAX_DEFAULT_LENGTH):
        length *= 2
    return length
