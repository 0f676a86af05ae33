"""`paretoformer serve`: API, pages and an embedded coordinator."""

import gc
from typing import Annotated

import typer

from .options import DEFAULT_DATABASE, Db, Jobs, Ray, WorkerMemory, Workers, open_database


def serve(
    host: Annotated[str, typer.Option("--host", envvar="PARETOFORMER_HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", envvar="PARETOFORMER_PORT", min=0, max=65535)] = 8765,
    db: Db = DEFAULT_DATABASE,
    workers: Workers = None,
    worker_memory: WorkerMemory = None,
    ray: Ray = "local",
    max_jobs: Jobs = 4,
) -> None:
    """Serves the pages and the HTTP interface, and runs the jobs that are submitted."""
    gc.disable()  # what is imported stays, and looking through it costs half a second
    try:
        from ..interruption import stop_on_terminate
        from ..serving import run_server
        from ..settings import load_settings
    finally:
        gc.freeze()
        gc.enable()

    settings = load_settings().model_copy(
        update={
            "host": host, "port": port, "db": db, "ray": ray,
            "workers": workers, "worker_memory": worker_memory,
        }
    )  # fmt: skip
    stop_on_terminate()
    database = open_database(db)
    try:
        run_server(settings, database, max_jobs=max_jobs)
    finally:
        database.close()  # leaves one file, without a log beside it
