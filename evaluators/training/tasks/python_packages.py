"""`python-packages`: which package of the standard library a stretch of its source is from.

Ten packages, each cut into windows that do not overlap; every class has as many as the smallest package,
evenly spaced. Of ten consecutive windows eight are for training, one is for validation and one for testing: a
window that is held out has its neighbours among the training data, as a new line of a known project has.
"""

import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

from space.errors import InvalidInputError

from ..data import Array, Part, TaskData, TaskKind
from ..task import Task
from ..text import LENGTHS, read_files, walk
from .python_stdlib import EXCLUDED

PACKAGES = (
    "asyncio", "email", "http", "importlib", "logging", "multiprocessing", "re", "unittest", "urllib", "xml",
)  # fmt: skip
"""Part of every installation since Python 3.11, each of 90,000 bytes at least there."""
DEFAULT_LENGTH = 128
BATCH_SIZE = 64
FEWEST = 100
"""Windows of a package."""
TENTH = 10
VALIDATION, TEST = 8, 9
"""Places among ten windows."""


class PythonPackages(Task):
    """A window of source code -> one of ten packages."""

    kind: ClassVar[TaskKind] = "text-classification"
    summary: ClassVar[str] = "which package of the standard library a piece of its source is from"
    source: ClassVar[str] = "the standard library of the running Python"
    lengths: ClassVar[str] = LENGTHS

    def prepare(self, length: int | None) -> TaskData:
        size = DEFAULT_LENGTH if length is None else length
        root = Path(sysconfig.get_paths()["stdlib"])
        texts = {name: np.frombuffer(_source(root, name), dtype=np.uint8) for name in PACKAGES}
        count = min(len(text) // size for text in texts.values()) // TENTH * TENTH
        if count < FEWEST:
            raise InvalidInputError(
                f"task.length={size} leaves less than {FEWEST} windows of a package; set a smaller one"
            )
        windows = np.stack([_windows(text, size, count) for text in texts.values()])
        return TaskData(
            name="python-packages",
            kind="text-classification",
            train=_part(windows, lambda place: place < VALIDATION),
            validation=_part(windows, lambda place: place == VALIDATION),
            test=_part(windows, lambda place: place == TEST),
            input="bytes",
            outputs=len(PACKAGES),
            batch_size=BATCH_SIZE,
            preprocessing={"classes": list(PACKAGES), "tokens": "bytes", "vocab_size": 256},
            source={
                "bytes": sum(len(text) for text in texts.values()),
                "split": "8, 1 and 1 of ten consecutive windows",
                "majority_error": 1 - 1 / len(PACKAGES),
            },
        )


def _source(root: Path, package: str) -> bytes:
    paths = [package / path for path in walk(root / package, without=EXCLUDED) if path.suffix == ".py"]
    if not paths:
        raise InvalidInputError(f"the standard library in '{root}' has no package '{package}'")
    return b"".join(raw for _, raw in read_files(root, paths))


def _windows(text: Array, size: int, count: int) -> Array:
    """`count` of the windows [count, size], evenly spaced."""
    starts = size * np.linspace(0, len(text) // size - 1, count).astype(np.int64)
    found: Array = text[starts[:, None] + np.arange(size)].astype(np.int32)
    return found


def _part(windows: Array, is_in: Callable[[Array], Array]) -> Part:
    """Of windows [classes, count, size]; the classes take turns."""
    chosen = windows[:, is_in(np.arange(windows.shape[1]) % TENTH)]
    labels = np.tile(np.arange(len(windows)), chosen.shape[1])
    return Part(chosen.swapaxes(0, 1).reshape(-1, windows.shape[2]), labels)
