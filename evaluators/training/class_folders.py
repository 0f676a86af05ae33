"""A folder with a folder of files per class, or with `train` and `test` of that form.

    flowers/rose/1.png  flowers/tulip/7.png        flowers/train/rose/1.png  flowers/test/rose/9.png

A file's class is the name of its folder. Hidden files, and files in other places, are left out.
"""

from collections.abc import Mapping
from pathlib import Path

from space.errors import InvalidInputError

Examples = list[tuple[Path, str]]
"""(file, class), sorted by class and name."""


def class_files(root: Path) -> Mapping[str, Examples]:
    """Suffix of the array names -> files: "" for all, or "_train" and "_test" where the folder is split.

    Raises:
        InvalidInputError: no folder below, or no file in one of them.
    """
    folders = _folders(root)
    if {folder.name for folder in folders} == {"train", "test"}:
        found = {f"_{folder.name}": _examples(folder) for folder in folders}
    else:
        found = {"": _examples(root)}
    for suffix, examples in found.items():
        if not examples:
            where = root / suffix.removeprefix("_") if suffix else root
            raise InvalidInputError(
                f"folder '{where}' has no file in {len(_folders(where))} folders below it; "
                "put the examples of every class into a folder of its own"
            )
    return found


def _examples(folder: Path) -> Examples:
    return [
        (path, inner.name)
        for inner in _folders(folder)
        for path in sorted(inner.iterdir())
        if path.is_file() and not path.name.startswith(".")
    ]


def _folders(folder: Path) -> list[Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise InvalidInputError(f"'{folder}' cannot be read: {error.strerror}") from error
    return [path for path in inside if path.is_dir() and not path.name.startswith(".")]
