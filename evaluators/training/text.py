"""Byte language models from a text file or a folder of text files.

Parts are 80/10/10 % for training, validation and test: many files by SHA-256 of their relative path, one file
(or a few) as three consecutive stretches. Validation and test are evenly spaced windows that do not overlap.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from space.errors import InvalidInputError

from .data import Array, Part, TaskData
from .floors import order_floors

DEFAULT_LENGTH = 128
BATCH_SIZE = 16
MAX_WINDOWS = 512
MIN_WINDOWS = 8
"""Fewest windows of the validation and the test part."""
MAX_BYTES = 2**30
LENGTHS = "128, or any from 8 to 8,192"
"""Of a window, in words."""

Files = list[tuple[str, bytes]]
"""(relative path with forward slashes, contents), sorted by path."""


def text_path(path: Path, length: int | None) -> TaskData:
    """A text file, or every text file below a folder (hidden and binary files are left out)."""
    if path.is_dir():
        files = [(name, raw) for name, raw in read_files(path, list(walk(path))) if b"\0" not in raw[:8192]]
        if not files:
            raise InvalidInputError(f"folder '{path}' has no text file; name one that has")
        return language_model(path.name, files, length, folder=True)
    files = read_files(path.parent, [Path(path.name)])
    position = files[0][1].find(b"\0")
    if position >= 0:
        raise InvalidInputError(
            f"'{path}' is not text: byte {position} is 0; name a text file or a folder of them"
        )
    return language_model(path.name, files, length, folder=False)


def language_model(name: str, files: Files, length: int | None, *, folder: bool) -> TaskData:
    """Text as a task.

    Raises:
        InvalidInputError: too short for windows of this length.
    """
    length = DEFAULT_LENGTH if length is None else length
    total = sum(len(raw) for _, raw in files)
    needed = 10 * MIN_WINDOWS * (length + 1)
    if total < needed:
        raise InvalidInputError(
            f"text '{name}' has {total:,} bytes; windows of {length} need at least {needed:,}: "
            "add text or set a smaller task.length"
        )
    parts = _by_path(files)
    split = "80/10/10 % of the files, by SHA-256 of the relative path"
    if min(len(parts[1]), len(parts[2])) < needed // 10 or len(parts[0]) < total // 2:
        parts = _stretches(b"".join(raw for _, raw in files))
        split = "80/10/10 % as three consecutive stretches"
    train = np.frombuffer(parts[0], dtype=np.uint8)
    validation, test = (_windows(np.frombuffer(part, dtype=np.uint8), length) for part in parts[1:])
    return TaskData(
        name=name,
        kind="language-model",
        train=Part(train),
        validation=Part(validation),
        test=Part(test),
        input="bytes",
        outputs=256,
        batch_size=BATCH_SIZE,
        preprocessing={"tokens": "bytes", "vocab_size": 256},
        source={
            "files": len(files) if folder else 1,
            "bytes": total,
            "split": split,
            "floors": order_floors(train, validation),
        },
    )


def walk(root: Path, without: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Files below `root` as relative paths, sorted; hidden ones and links to folders are left out."""
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and name not in without]
        relative = Path(folder).relative_to(root)
        found += [relative / name for name in names if not name.startswith(".")]
    return iter(sorted(found, key=lambda path: path.as_posix()))


def read_files(root: Path, paths: Sequence[Path]) -> Files:
    """The files at relative paths.

    Raises:
        InvalidInputError: one cannot be read, or they are too large together.
    """
    files: Files = []
    total = 0
    for path in paths:
        try:
            total += (root / path).stat().st_size
            if total > MAX_BYTES:
                raise InvalidInputError(
                    f"'{root}' has more than {MAX_BYTES:,} bytes; name a smaller part of it"
                )
            files.append((path.as_posix(), (root / path).read_bytes()))
        except OSError as error:
            raise InvalidInputError(f"'{root / path}' cannot be read: {error.strerror}") from error
    return files


def _by_path(files: Files) -> tuple[bytes, bytes, bytes]:
    parts: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
    for name, raw in files:
        tenth = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8]) % 10
        parts[max(0, tenth - 7)].append(raw)
    return b"".join(parts[0]), b"".join(parts[1]), b"".join(parts[2])


def _stretches(text: bytes) -> tuple[bytes, bytes, bytes]:
    first, second = len(text) * 8 // 10, len(text) * 9 // 10
    return text[:first], text[first:second], text[second:]


def _windows(text: Array, length: int) -> Array:
    """At most 512 windows [windows, length + 1], evenly spaced from the first byte to the last."""
    size = length + 1
    count = min(MAX_WINDOWS, len(text) // size)
    starts = np.linspace(0, len(text) - size, count).astype(np.int64)
    windows: Array = text[starts[:, None] + np.arange(size)]
    return windows
