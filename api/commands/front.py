"""`paretoformer front`: the Pareto front of a job."""

from enum import StrEnum
from typing import Annotated

import typer

from .options import DEFAULT_DATABASE, Db, JobId, Json, find_job, open_database
from .output import emit_json, out, pairs


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def front(
    job: JobId,
    form: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.TABLE,
    db: Db = DEFAULT_DATABASE,
    as_json: Json = False,
) -> None:
    """Shows a job's front, fastest first, and what it gains over the references."""
    from search.running import result

    from ..answers import front_answer, front_columns
    from ..tables import front_csv
    from .texts import front_table, gain_text

    database = open_database(db, must_exist=True)
    with database.read() as session:
        record = find_job(session, job)
    found = result(database, record.id)
    if as_json or form is Format.JSON:
        emit_json(front_answer(found.job, found.front, found.references))
    elif form is Format.CSV:
        typer.echo(front_csv(front_columns(found.job, found.front)), nl=False)
    else:
        console = out()
        console.print(front_table(found.job, found.front) if found.front else "the front is empty so far")
        console.print(pairs(gain_text(found.job)))
