"""`paretoformer worker`: a coordinator that claims queued jobs."""

from .options import DEFAULT_DATABASE, Db, Ray, Workers, open_database
from .output import err


def worker(db: Db = DEFAULT_DATABASE, ray: Ray = "local", workers: Workers = None) -> None:
    """Runs queued jobs and exports until interrupted; a job in progress goes back to the queue."""
    from search.service import Service

    from ..logging import configure_logging
    from ..settings import load_settings
    from .search import stop_on_terminate

    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format)
    database = open_database(db)
    stop_on_terminate()
    err().print(f"waiting for jobs in {database.url_shown}; Ctrl-C ends", markup=False, soft_wrap=True)
    try:
        Service(database, ray=ray, workers=workers).run()
    except KeyboardInterrupt:
        err().print("ended")
