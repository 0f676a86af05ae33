"""`paretoformer submit`: puts a job into the queue of a database or server."""

from pathlib import Path
from typing import Annotated

import typer

from .options import DEFAULT_DATABASE, Db, Json, Overrides, Server, open_database
from .output import emit_json, out


def submit(
    path: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")],
    overrides: Overrides = None,
    server: Server = None,
    db: Db = DEFAULT_DATABASE,
    as_json: Json = False,
) -> None:
    """Queues a job for `serve` or `worker`."""
    from search.job import load_job

    spec = load_job(path, overrides or [])
    if server is not None:
        from .remote import ask

        answer = ask(server, "POST", "/jobs", spec.model_dump(mode="json"))
    else:
        from search.plan import plan_job
        from search.running import create_job

        from ..answers import job_answer

        plan = plan_job(spec)
        answer = job_answer(create_job(open_database(db), plan))
    if as_json:
        emit_json(answer)
    else:
        out().print(f"queued: {answer['id']}  ({spec.name})", soft_wrap=True, markup=False)
