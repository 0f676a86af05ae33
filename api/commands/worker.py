"""`paretoformer worker`: a coordinator that claims queued jobs."""

import time

from .options import DEFAULT_DATABASE, Db, Ray, Workers, open_database
from .output import err

_CHECK_S = 0.5


def worker(db: Db = DEFAULT_DATABASE, ray: Ray = "local", workers: Workers = None) -> None:
    """Runs queued jobs and exports until interrupted; a job in progress goes back to the queue."""
    from search.service import Service

    from ..interruption import stop_on_terminate
    from ..logging import configure_logging
    from ..settings import load_settings

    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    database = open_database(db)
    err().print(f"waiting for jobs in {database.url_shown}; Ctrl-C ends", markup=False, soft_wrap=True)
    service = Service(database, ray=ray, workers=workers)
    service.start()
    try:
        while True:
            stop_on_terminate()  # again and again: Ray starts with the first job
            time.sleep(_CHECK_S)
    except KeyboardInterrupt:
        err().print("ending; a job in progress goes back to the queue")
    finally:
        service.stop()
