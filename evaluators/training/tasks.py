"""From the job file's `task` to arrays: built-in data sets by name, a user's own by path."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from space.errors import InvalidInputError, nearest

from .arrays import digits, npz_path
from .data import TaskData, TaskKind
from .labelled_text import labelled_text_path
from .text import python_stdlib, text_path

TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)

BUILT_IN: Mapping[str, TaskKind] = MappingProxyType({"python-stdlib": "language-model", "digits": "image"})
"""Data sets that need no file -> the kind of task they are."""

_FORMATS: Mapping[TaskKind, str] = {
    "language-model": "a text file or a folder of text files",
    "image": "an .npz file",
    "sequence": "an .npz file",
    "text-classification": "a .csv or .jsonl file with the columns text and label",
}


def prepare_task(kind: str, dataset: str, length: int | None = None) -> TaskData:
    """Reads and checks a task's data and fixes its parts. `length`: tokens per example of text.

    Raises:
        InvalidInputError: unknown kind or data set, a missing or unreadable file, or data nothing can be
        learned from.
    """
    task_kind = _checked_kind(kind)
    if length is not None:
        _check_length(task_kind, length)
    built_in = BUILT_IN.get(dataset)
    if built_in is not None and built_in != task_kind:
        raise InvalidInputError(
            f"data set '{dataset}' is of kind '{built_in}', not '{kind}'; set task.kind to it"
        )
    if dataset == "python-stdlib":
        return python_stdlib(length)
    if dataset == "digits":
        return digits()
    return _from_path(task_kind, dataset, length)


def _checked_kind(kind: str) -> TaskKind:
    for known in TASK_KINDS:
        if kind == known:
            return known
    raise InvalidInputError(f"unknown task kind '{kind}'; {nearest(kind, TASK_KINDS)}")


def _check_length(kind: TaskKind, length: int) -> None:
    if kind in ("image", "sequence"):
        raise InvalidInputError(
            f"task.length={length} is for text; leave it out for '{kind}', the data decide"
        )
    if not 8 <= length <= 8192:
        raise InvalidInputError(f"task.length={length} must be from 8 to 8192")


def _from_path(kind: TaskKind, dataset: str, length: int | None) -> TaskData:
    path = Path(dataset).expanduser()
    if not path.exists():
        names = [name for name, of_kind in BUILT_IN.items() if of_kind == kind]
        known = nearest(dataset, names) if names else "there is no built-in data set of this kind"
        raise InvalidInputError(
            f"data set '{dataset}' does not exist; give {_FORMATS[kind]}, or a built-in name: {known}"
        )
    readers: Mapping[TaskKind, Callable[[], TaskData]] = {
        "language-model": lambda: text_path(path, length),
        "image": lambda: npz_path(path, kind),
        "sequence": lambda: npz_path(path, kind),
        "text-classification": lambda: labelled_text_path(path, length),
    }
    _check_format(kind, path)
    return readers[kind]()


def _check_format(kind: TaskKind, path: Path) -> None:
    suffixes: Mapping[TaskKind, tuple[str, ...]] = {
        "image": (".npz",),
        "sequence": (".npz",),
        "text-classification": (".csv", ".jsonl"),
    }
    wanted = suffixes.get(kind)
    if wanted and (path.is_dir() or path.suffix.lower() not in wanted):
        what = "a folder" if path.is_dir() else f"of format '{path.suffix}'"
        raise InvalidInputError(f"data set '{path}' is {what}; task kind '{kind}' needs {_FORMATS[kind]}")
    if not (path.is_dir() or path.is_file()):
        raise InvalidInputError(f"data set '{path}' is neither a file nor a folder; give {_FORMATS[kind]}")
    if kind == "language-model" and path.suffix.lower() in (".npz", ".npy", ".zip", ".gz", ".parquet"):
        raise InvalidInputError(f"data set '{path}' is not text; task kind '{kind}' needs {_FORMATS[kind]}")
