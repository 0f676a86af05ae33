"""`paretoformer device`: machines that latencies were measured on, and this one."""

import typer

from .options import DEFAULT_DATABASE, Db, Json, open_database
from .output import emit_json, out, pairs

app = typer.Typer(no_args_is_help=True, help="Machines that latencies were measured on.")


@app.command("list")
def list_devices(db: Db = DEFAULT_DATABASE, as_json: Json = False) -> None:
    """This machine, and those in the database."""
    from ..devices import device_answers

    with open_database(db).read() as session:
        found = device_answers(session)
    if as_json:
        emit_json(found)
        return
    for one in found:
        out().print(pairs([("device", one["key"]), ("here", one["here"]), *one["facts"].items()]))
