"""From the job file's `task` to data: a task by name, or a user's own file or folder by path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from space.errors import InvalidInputError, nearest

from .arrays import npz_path
from .data import TaskData, TaskKind
from .image_folder import image_folder
from .kept import kept
from .labelled_text import labelled_text_path
from .sequence_table import sequence_table
from .tables import SUFFIXES as TABLES
from .tasks import prepared_task, tasks
from .text import text_path

TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)

FOLDER, ANY = "folder", "*"
NOT_TEXT = (".npz", ".npy", ".zip", ".gz", ".parquet", ".png", ".jpg", ".jpeg", ".gif", ".pdf")


@dataclass(frozen=True, slots=True)
class Format:
    """A form of a user's own data. `suffixes`: endings of file names, or FOLDER, or ANY for every file."""

    words: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, int | None], TaskData]


FORMATS: Mapping[TaskKind, tuple[Format, ...]] = MappingProxyType(
    {
        "language-model": (Format("a text file or a folder of text files", (ANY, FOLDER), text_path),),
        "image": (
            Format("an .npz file", (".npz",), lambda path, _: npz_path(path, "image")),
            Format("a folder of images by class", (FOLDER,), image_folder),
        ),
        "sequence": (
            Format("an .npz file", (".npz",), lambda path, _: npz_path(path, "sequence")),
            Format("a .csv, .jsonl or .parquet file of sequences with a label", TABLES, sequence_table),
        ),
        "text-classification": (
            Format(
                "a .csv, .jsonl or .parquet file with the columns text and label", TABLES, labelled_text_path
            ),
            Format("a folder of text files by class", (FOLDER,), labelled_text_path),
        ),
    }
)
"""What a path may be, per kind of task."""


def prepare_task(
    kind: str, dataset: str, length: int | None = None, *, cache: Path | None = None
) -> TaskData:
    """Reads and checks a task's data and fixes its parts. `length`: tokens per example of text. `cache`: a
    folder that keeps what takes long to prepare.

    Raises:
        InvalidInputError: unknown kind or data set, a missing or unreadable file, or data nothing can be
        learned from.
    """
    task_kind = _checked_kind(kind)
    if length is not None and not 8 <= length <= 8192:
        raise InvalidInputError(f"task.length={length} must be from 8 to 8192")
    known = tasks()
    if dataset not in known:
        return _from_path(task_kind, dataset, length)
    task = known[dataset]
    if task.kind != task_kind:
        raise InvalidInputError(
            f"data set '{dataset}' is of kind '{task.kind}', not '{kind}'; set task.kind to it"
        )
    if cache is None or not task.is_costly:
        return prepared_task(dataset, task, length)
    return kept(cache, dataset, task.version, length, lambda: prepared_task(dataset, task, length))


def _checked_kind(kind: str) -> TaskKind:
    for known in TASK_KINDS:
        if kind == known:
            return known
    raise InvalidInputError(f"unknown task kind '{kind}'; {nearest(kind, TASK_KINDS)}")


def _from_path(kind: TaskKind, dataset: str, length: int | None) -> TaskData:
    path, needed = Path(dataset).expanduser(), " or ".join(form.words for form in FORMATS[kind])
    if length is not None and kind in ("image", "sequence"):
        raise InvalidInputError(
            f"task.length={length} is for text; leave it out for '{kind}', the data decide"
        )
    if not path.exists():
        names = [name for name, task in tasks().items() if task.kind == kind]
        known = nearest(dataset, names) if names else "there is no built-in data set of this kind"
        raise InvalidInputError(
            f"data set '{dataset}' does not exist; give {needed}, or a built-in name: {known}"
        )
    if not (path.is_dir() or path.is_file()):
        raise InvalidInputError(f"data set '{path}' is neither a file nor a folder; give {needed}")
    if path.is_file() and path.suffix.lower() in NOT_TEXT and kind == "language-model":
        raise InvalidInputError(f"data set '{path}' is not text; task kind '{kind}' needs {needed}")
    ending = FOLDER if path.is_dir() else path.suffix.lower()
    for form in FORMATS[kind]:
        if ending in form.suffixes or (ANY in form.suffixes and ending != FOLDER):
            return form.read(path, length)
    what = "a folder" if path.is_dir() else f"of format '{path.suffix}'"
    raise InvalidInputError(f"data set '{path}' is {what}; task kind '{kind}' needs {needed}")
