"""`paretoformer db`: care of the database."""

from pathlib import Path
from typing import Annotated

import typer

from .options import DEFAULT_DATABASE, Db, Json, open_database
from .output import emit_json, out

app = typer.Typer(no_args_is_help=True, help="Care of the database.")


@app.command("upgrade")
def upgrade(db: Db = DEFAULT_DATABASE, as_json: Json = False) -> None:
    """Creates the database or brings its schema up to date."""
    from search.storage.models import SCHEMA_REVISION

    database = open_database(db)
    if as_json:
        emit_json({"database": database.url_shown, "revision": SCHEMA_REVISION})
    else:
        out().print(f"{database.url_shown} is at revision {SCHEMA_REVISION}", soft_wrap=True, markup=False)


@app.command("check")
def check(db: Db = DEFAULT_DATABASE, as_json: Json = False) -> None:
    """Checks every stored job against the invariants; exit code 1 when one is broken."""
    from search.storage import check as faults_of

    faults = faults_of(open_database(db, must_exist=True))
    if as_json:
        emit_json({"faults": faults})
    else:
        out().print("\n".join(faults) or "no faults", markup=False, soft_wrap=True)
    if faults:
        raise typer.Exit(1)


@app.command("backup")
def backup(
    copy: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    db: Db = DEFAULT_DATABASE,
    as_json: Json = False,
) -> None:
    """Copies an SQLite database consistently, also while a search writes."""
    open_database(db, must_exist=True).backup(copy)
    if as_json:
        emit_json({"backup": str(copy), "size_bytes": copy.stat().st_size})
    else:
        out().print(f"written: {copy}", markup=False, soft_wrap=True)


@app.command("restore")
def restore(
    copy: Annotated[Path, typer.Argument(help="A file that `db backup` wrote.")],
    db: Db = DEFAULT_DATABASE,
    force: Annotated[bool, typer.Option("--force", help="Puts a database that is there aside.")] = False,
    as_json: Json = False,
) -> None:
    """Checks a backup and puts it in the place of an SQLite database; end what uses that first."""
    from search.storage.engine import parse_url
    from search.storage.restore import restore as put_back
    from space.errors import UnsupportedError

    file = parse_url(db).file
    if file is None:
        raise UnsupportedError("restoring PostgreSQL is pg_restore's work; run it on the server")
    _check_unused(db, file)
    aside = put_back(copy, file, force=force)
    if as_json:
        emit_json({"database": str(file), "put_aside": None if aside is None else str(aside)})
    else:
        words = "" if aside is None else f"; what was there is {aside}"
        out().print(f"restored: {file}{words}", markup=False, soft_wrap=True)


def _check_unused(db: str, file: Path) -> None:
    """
    Raises:
        ConflictError: a coordinator on this machine works on a job of the database.
    """
    from search.running import is_alive
    from search.storage import jobs
    from space.errors import ConflictError, ServiceError

    if not file.exists():
        return
    try:
        database = open_database(db)
    except ServiceError:  # damaged: that is what a backup is for
        return
    with database.read() as session:
        held = [job for job in jobs.leased(session) if is_alive(job.lease_owner or "")]
    database.close()
    if held:
        raise ConflictError(f"job {held[0].id} runs on '{file}' ({held[0].lease_owner}); stop it first")


@app.command("prune")
def prune(
    days: Annotated[float, typer.Option("--older-than", min=0, help="Days since a job ended.")] = 90.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only says what would go.")] = False,
    db: Db = DEFAULT_DATABASE,
    as_json: Json = False,
) -> None:
    """Removes details of old jobs: events and logs of single trials, checkpoints nobody stands on."""
    from dataclasses import asdict

    from search.retention import prune as remove

    database = open_database(db, must_exist=True)
    removed = remove(database, days * 86_400, database.now(), dry_run=dry_run)
    if as_json:
        emit_json(asdict(removed))
    else:
        word = "would go" if dry_run else "removed"
        out().print(
            f"{removed.jobs} jobs: {removed.events} events, {removed.logs} logs, "
            f"{removed.checkpoints} trainings ({removed.size_bytes / 2**20:.1f} MiB) {word}",
            markup=False,
            soft_wrap=True,
        )
