"""`paretoformer export`: a trial of a job as a verified model folder."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from space.errors import ConflictError, ServiceError

from .options import DEFAULT_DATABASE, Db, JobId, Json, find_job, open_database
from .output import emit_json, err, out, pairs

if TYPE_CHECKING:
    from rich.console import Console

    from search.records import ArtefactRecord
    from search.storage.database import Database


def export(
    job: JobId,
    folder: Annotated[Path, typer.Option("--out", help="A new or empty folder.")],
    which: Annotated[
        str,
        typer.Option("--pick", help="knee, fastest, most-accurate, a trial's number, or R1 for a reference."),
    ] = "knee",
    formats: Annotated[
        str,
        typer.Option("--format", help="torch, code, torch-export, onnx, hf; several with commas."),
    ] = "torch,onnx",
    quantize: Annotated[
        str,
        typer.Option(
            "--quantize",
            help="Of the ONNX files: none (as searched), int8, int8-static (calibrated) or int4.",
        ),
    ] = "none",
    licence: Annotated[
        str | None,
        typer.Option("--license", metavar="SPDX", help="Licence of the weights, for the model card."),
    ] = None,
    allow_partial: Annotated[
        bool,
        typer.Option("--allow-partial", help="Also of a job that goes on, or of a half trained trial."),
    ] = False,
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
    wanted = Wanted(which, [name.strip() for name in formats.split(",")], quantize, licence, allow_partial)
    artefact = _export(database, job, wanted, None if as_json else console)
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for on the command line."""

    which: str
    formats: list[str]
    quantize: str
    licence: str | None
    allow_partial: bool


def _export(database: "Database", job: str, wanted: Wanted, console: "Console | None") -> "ArtefactRecord":
    """Asks for the export and writes it here, unless a server takes it first; waits for its end.

    An interrupt cancels it.
    """
    from search.clock import Clock
    from search.exporting import EXPORT_LEASE_S, request_export, run_export
    from search.running import owner_name
    from search.storage import artefacts
    from search.storage.artefacts import ENDED

    clock = Clock()
    with database.write() as session:
        done = request_export(
            session, find_job(session, job), wanted.which, formats=wanted.formats, quantize=wanted.quantize,
            licence=wanted.licence, allow_partial=wanted.allow_partial, data_dir=database.data_dir,
            now=clock.time(),
        )  # fmt: skip
    try:
        while done.state not in ENDED:
            with database.write() as session:
                taken = artefacts.claim_queued(session, owner_name(), EXPORT_LEASE_S, clock.time())
            if taken is not None:
                with shown(database, taken.id, console):
                    run_export(database, taken, clock)
            else:
                time.sleep(0.5)
            with database.read() as session:
                done = artefacts.get(session, done.id)
    except KeyboardInterrupt:
        with suppress(ConflictError), database.write() as session:
            artefacts.cancel(session, done.id, tenant=find_job(session, job).tenant, now=clock.time())
        raise
    if done.state != "ready":
        raise ServiceError(done.message or f"the export is {done.state}")
    return done


@contextmanager
def shown(database: "Database", export_id: str, console: "Console | None") -> Iterator[None]:
    """Meanwhile says on the console what the writer of the export does."""
    from search.storage import artefacts

    if console is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        last = None
        while not ended.wait(0.3):
            with database.read() as session:
                row = artefacts.get(session, export_id)
            if row.state == "running" and row.message not in (None, last):
                last = row.message
                console.print(f"  {last}", markup=False)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
