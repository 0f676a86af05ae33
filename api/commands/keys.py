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
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="read, write or admin; may be repeated. All three by default."),
    ] = None,
    tenant: Annotated[
        str, typer.Option("--tenant", help="Whose jobs it sees; local: those of this machine's commands.")
    ] = "local",
    days: Annotated[float | None, typer.Option("--days", min=0.001, help="Ends after so many.")] = None,
    db: Db = DEFAULT_DATABASE,
    as_json: Json = False,
) -> None:
    """Makes a key and shows its secret, this once."""
    from search.storage import keys

    database = open_database(db)
    with database.write() as session:
        record, secret = keys.create(
            session,
            name=name,
            tenant=tenant,
            scopes=scope or keys.SCOPES,
            lifetime_s=None if days is None else days * 86_400,
        )
    if as_json:
        emit_json({**_answer(record), "secret": secret})
    else:
        words = f"kept in {database.url_shown} as a hash only: copy it now"
        out().print(f"{secret}\n{words}", markup=False, soft_wrap=True)


@app.command("list")
def list_keys(db: Db = DEFAULT_DATABASE, as_json: Json = False) -> None:
    """Every key, without its secret."""
    from search.storage import keys

    with open_database(db, must_exist=True).read() as session:
        found = [_answer(record) for record in keys.list_keys(session)]
    if as_json:
        emit_json(found)
    else:
        rows = [
            [one["id"], one["name"], one["tenant"], " ".join(one["scopes"]), _short(one["created_at"]),
             _short(one["last_used_at"]), _short(one["expires_at"]), _short(one["revoked_at"])]
            for one in found
        ]  # fmt: skip
        titles = ["key", "name", "tenant", "scopes", "created (UTC)", "last used", "ends", "revoked"]
        out().print(table(titles, rows) if rows else "no keys")


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
        "tenant": record.tenant,
        "scopes": list(record.scopes),
        "created_at": moment(record.created_at),
        "expires_at": moment(record.expires_at),
        "last_used_at": moment(record.last_used_at),
        "revoked_at": moment(record.revoked_at),
    }


def _short(moment: str | None) -> str:
    return "" if moment is None else moment[:16].replace("T", " ")
