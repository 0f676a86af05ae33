"""`paretoformer report`: one offline page with everything in it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import DEFAULT_DATABASE, Db, JobId, Json, find_job, open_database
from .output import emit_json, out

if TYPE_CHECKING:
    from search.records import JobRecord
    from search.storage.database import Database


def report(
    job: JobId,
    path: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("report.html"),
    db: Db = DEFAULT_DATABASE,
    as_json: Json = False,
) -> None:
    """Writes a job's report as one self-contained HTML file."""
    database = open_database(db, must_exist=True)
    with database.read() as session:
        found = find_job(session, job)
    write_report(database, found, path)
    if as_json:
        emit_json({"job": found.id, "report": str(path), "size_bytes": path.stat().st_size})
    else:
        out().print(f"written: {path}", soft_wrap=True, markup=False)


def write_report(database: "Database", job: "JobRecord", path: Path) -> None:
    """The report of a job as a file, put in its place whole.

    Raises:
        InvalidInputError: the file cannot be written.
    """
    from space.errors import InvalidInputError

    from ..gathering import gather, report_of

    with database.read() as session:
        text = report_of(gather(session, job))
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise InvalidInputError(f"'{path}' cannot be written: {error.strerror}") from error
