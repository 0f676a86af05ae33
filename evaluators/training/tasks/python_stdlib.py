"""`python-stdlib`: the `.py` files of the running interpreter's standard library, as bytes.

Tests, tables and what is not the standard library are left out. What is in it depends on the Python version,
which the data digest shows.
"""

import sysconfig
from pathlib import Path
from typing import ClassVar

from ..data import TaskData, TaskKind
from ..task import Task
from ..text import LENGTHS, language_model, read_files, walk

EXCLUDED = frozenset(
    {"test", "tests", "encodings", "idlelib", "site-packages", "dist-packages", "__pycache__"}
)
"""Folders that are left out."""


class PythonStdlib(Task):
    """A window of source code -> its next byte, everywhere."""

    kind: ClassVar[TaskKind] = "language-model"
    summary: ClassVar[str] = "the next byte of Python source code"
    source: ClassVar[str] = "the standard library of the running Python"
    lengths: ClassVar[str] = LENGTHS

    def prepare(self, length: int | None) -> TaskData:
        root = Path(sysconfig.get_paths()["stdlib"])
        paths = [path for path in walk(root, without=EXCLUDED) if path.suffix == ".py"]
        return language_model("python-stdlib", read_files(root, paths), length, folder=True)
