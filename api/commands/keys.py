"""`paretoformer keys`: the API keys of a server."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import DEFAULT_DATABASE, Db, Json, open_database
from .output import emit_json, out, table

if TYPE_CHECKING:
    from search.storage.keys import KeyRecord

app = typer.Typer(
    no_args_is_help=True, help="API keys of a server. With one in the database every request needs one."
)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    db: Db = DEFAULT_DATABASE,
    as_json: Json = False,
) -> None:
    """Makes a key and shows its secret, this once."""
    from search.storage import keys

    with open_database(db).write() as session:
        record, secret = keys.create(session, name=name)
    if as_json:
        emit_json({**_answer(record), "secret": secret})
    else:
        out().print(f"{secret}\nkept as a hash only: copy it now", markup=False, soft_wrap=True)


@app.command("list")
def list_keys(db: Db = DEFAULT_DATABASE, as_json: Json = False) -> None:
    """Every key, without its secret."""
    from search.storage import keys

    with open_database(db, must_exist=True).read() as session:
        found = [_answer(record) for record in keys.list_keys(session)]
    if as_json:
        emit_json(found)
    else:
        rows = [[one["id"], one["name"], one["created_at"][:16], one["revoked_at"] or ""] for one in found]
        out().print(table(["key", "name", "created (UTC)", "revoked"], rows) if rows else "no keys")


@app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, the second part of the secret.")],
    db: Db = DEFAULT_DATABASE,
    as_json: Json = False,
) -> None:
    """Makes a key useless from now on."""
    from search.storage import keys

    with open_database(db, must_exist=True).write() as session:
        record = keys.revoke(session, key)
    if as_json:
        emit_json(_answer(record))
    else:
        out().print(f"revoked: {record.id}  {record.name}", markup=False)


def _answer(record: "KeyRecord") -> dict[str, Any]:
    from ..answers import moment

    return {
        "id": record.id,
        "name": record.name,
        "created_at": moment(record.created_at),
        "revoked_at": moment(record.revoked_at),
    }
