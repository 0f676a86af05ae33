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
