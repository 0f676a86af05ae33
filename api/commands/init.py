"""`paretoformer init`: an example job file with every key explained."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Json
from .output import emit_json, out


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path("job.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    as_json: Json = False,
) -> None:
    """Writes an example job file with comments."""
    from space.errors import InvalidInputError

    from ..example import EXAMPLE

    if path.exists() and not force:
        raise InvalidInputError(f"'{path}' exists; choose another name, or --force to overwrite it")
    try:
        path.write_text(EXAMPLE, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"'{path}' cannot be written: {error.strerror}") from error
    if as_json:
        emit_json({"file": str(path)})
    else:
        out().print(f"written: {path}; run it with: paretoformer search {path}", soft_wrap=True, markup=False)
