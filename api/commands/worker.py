"""`paretoformer worker`: a coordinator that claims queued jobs."""

import time
from typing import TYPE_CHECKING

from .options import DEFAULT_DATABASE, Db, Jobs, Ray, WorkerMemory, Workers, open_database
from .output import err

if TYPE_CHECKING:
    from search.storage.database import Database

_CHECK_S = 0.1


def worker(
    db: Db = DEFAULT_DATABASE,
    ray: Ray = "local",
    workers: Workers = None,
    worker_memory: WorkerMemory = None,
    max_jobs: Jobs = 4,
) -> None:
    """Runs queued jobs and exports until interrupted; a job in progress goes back to the queue."""
    from search.service import Service

    from ..interruption import stop_on_terminate
    from ..logging import configure_logging
    from ..settings import load_settings
    from ..telemetry import start_telemetry

    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    database = open_database(db)
    err().print(f"waiting for jobs in {database.url_shown}; Ctrl-C ends", markup=False, soft_wrap=True)
    _check_place(database)
    telemetry = start_telemetry()
    service = Service(database, ray=ray, workers=workers, memory=worker_memory, max_jobs=max_jobs)
    service.start()
    try:
        while True:
            stop_on_terminate()  # again and again: Ray starts with the first job
            time.sleep(_CHECK_S)
    except KeyboardInterrupt:
        err().print("ending; a job in progress goes back to the queue")
    finally:
        service.stop()
        if telemetry is not None:
            telemetry.shutdown()
        database.close()


def _check_place(database: "Database") -> None:
    """
    Raises:
        InvalidInputError: an SQLite file on a network file system, whose locks do not reach other machines.
    """
    from search.storage.places import file_system
    from space.errors import InvalidInputError

    kind = None if database.file is None else file_system(database.file)
    if kind is not None and kind.is_network:
        raise InvalidInputError(
            f"database '{database.file}' is on a network file system ({kind.name}); several workers need "
            "PostgreSQL there, or a file on a disk of this machine"
        )
