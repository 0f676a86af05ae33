"""The Python client of a server: `from api.client import Client`. Needs neither torch nor a database."""

from .client import Client
from .errors import ServerError
from .records import Dataset, Event, Export, Front, Job, Point, Spread, Trial

__all__ = [
    "Client",
    "Dataset",
    "Event",
    "Export",
    "Front",
    "Job",
    "Point",
    "ServerError",
    "Spread",
    "Trial",
]
