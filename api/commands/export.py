"""`paretoformer export`: a trial of a job as a verified model folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import DEFAULT_DATABASE, Db, JobId, Json, find_job, open_database
from .output import emit_json, err, out, pairs

if TYPE_CHECKING:
    from search.records import ArtefactRecord


def export(
    job: JobId,
    folder: Annotated[Path, typer.Option("--out", help="A new or empty folder.")],
    which: Annotated[
        str,
        typer.Option("--pick", help="knee, fastest, most-accurate, a trial's number, or R1 for a reference."),
    ] = "knee",
    formats: Annotated[
        str, typer.Option("--format", help="torch, onnx, or both with a comma.")
    ] = "torch,onnx",
    quantize: Annotated[
        str, typer.Option("--quantize", help="Number format of the ONNX file: none (as searched) or int8.")
    ] = "none",
    db: Db = DEFAULT_DATABASE,
    as_json: Json = False,
) -> None:
    """Writes a trained architecture as files, reloads and checks them, and measures what was written."""
    from search.exporting import check_folder, publish_to

    check_folder(folder)
    database = open_database(db, must_exist=True)
    console = err()
    if not as_json:
        console.print("writing, reloading and measuring the model ...")
    artefact = _export(database, job, which, [name.strip() for name in formats.split(",")], quantize)
    publish_to(database, artefact, folder)
    from ..answers import export_answer

    answer = {**export_answer(artefact), "folder": str(folder), "files": _files(folder)}
    if as_json:
        emit_json(answer)
    else:
        out().print(
            pairs([("trial", artefact.trial), ("folder", folder), ("files", ", ".join(_files(folder)))])
        )
        out().print(f"how to use it: {folder / 'README.md'}", soft_wrap=True, markup=False)


def _export(database: object, job: str, which: str, formats: list[str], quantize: str) -> "ArtefactRecord":
    """Asks for the export and writes it here, unless a server takes it first; waits for its end."""
    import time

    from search.clock import Clock
    from search.exporting import request_export, run_export
    from search.records import ArtefactRecord
    from search.running import owner_name
    from search.storage import artefacts
    from search.storage.database import Database
    from space.errors import ServiceError

    assert isinstance(database, Database)
    clock = Clock()
    with database.write() as session:
        asked = request_export(
            session, find_job(session, job), which, formats=formats, quantize=quantize, now=clock.time()
        )
        taken = artefacts.claim_queued(session, owner_name(), now=clock.time())
    while taken is not None:
        done = run_export(database, taken, clock)
        if taken.id == asked.id:
            break
        with database.write() as session:
            taken = artefacts.claim_queued(session, owner_name(), now=clock.time())
    else:
        done = asked
        while done.state not in ("ready", "failed"):
            time.sleep(0.5)
            with database.read() as session:
                done = artefacts.get(session, asked.id)
    assert isinstance(done, ArtefactRecord)
    if done.state == "failed":
        raise ServiceError(done.message or "the export failed")
    return done


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
