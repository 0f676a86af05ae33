"""Options that several commands share, and what they stand for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from search.records import JobRecord
    from search.storage.database import Database

DATABASE_HELP = "Database: sqlite:///FILE, a file's path, or postgresql://..."
DEFAULT_DATABASE = "sqlite:///paretoformer.db"

Db = Annotated[
    str, typer.Option("--db", envvar="PARETOFORMER_DB", help=DATABASE_HELP, show_default="./paretoformer.db")
]
Json = Annotated[bool, typer.Option("--json", help="Only JSON on standard output.")]
Ray = Annotated[
    str,
    typer.Option(
        "--ray",
        envvar="PARETOFORMER_RAY",
        help="local: workers on this machine; none: in this process; or a cluster's ADDRESS.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, envvar="PARETOFORMER_WORKERS", help="Workers; the cores by default."),
]
WorkerMemory = Annotated[
    int | None,
    typer.Option(
        "--worker-memory",
        metavar="BYTES",
        min=500_000_000,
        envvar="PARETOFORMER_WORKER_MEMORY",
        help="Memory a worker may have; by default its share of its machine.",
    ),
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="Jobs coordinated at once.")]
Server = Annotated[
    str | None,
    typer.Option(
        "--server", envvar="PARETOFORMER_SERVER", help="Ask this server (http://...) instead of a database."
    ),
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job, or its beginning (4 characters).")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides a key: budget.trials=24.")
]


def open_database(url: str, *, must_exist: bool = False) -> "Database":
    """The database of `--db`; a command that only looks does not make one.

    Raises:
        NotFoundError: `must_exist`, and the file is not there.
    """
    from search.storage.database import Database
    from search.storage.engine import parse_url
    from space.errors import NotFoundError

    from ..settings import load_settings

    if must_exist:
        file = parse_url(url).file
        if file is not None and not file.exists():
            raise NotFoundError(
                f"database '{file}' does not exist; name another with --db, or run a search first"
            )
    settings = load_settings()
    is_url = settings.data is not None and "://" in settings.data
    return Database.open(
        url,
        durability=settings.durability,
        data_dir=Path(settings.data) if settings.data and not is_url else None,
        data_url=settings.data if is_url else None,
    )


def find_job(session: "Session", text: str) -> "JobRecord":
    """The job a person means."""
    from search.storage import jobs

    return jobs.resolve(session, text)
