"""`serve`: uvicorn with the application, and the embedded coordinator beside it."""

import gc
import logging
import signal
import socket
from types import FrameType

import uvicorn
from rich.console import Console

from search.service import Service
from search.storage.database import Database
from space.errors import InvalidInputError

from .app import check_binding, create_app
from .deps import Services
from .guard import is_loopback
from .logging import configure_logging
from .safe_versions import check_versions
from .settings import Settings
from .telemetry import start_telemetry
from .uploads import remove_strays

log = logging.getLogger(__name__)

SHUTDOWN_S = 5


class Server(uvicorn.Server):
    """Tells the event streams about the end as soon as it is asked for, else they would hold it up."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._services.stopping.set()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streams that sleep are woken, see the end and end."""
        self._services.watch.wake_all()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Every tenth of a second: takes SIGTERM back from Ray, see `api.interruption`."""
        if not self.should_exit:
            signal.signal(signal.SIGTERM, self.handle_exit)
        return await super().on_tick(counter)


def run_server(settings: Settings, database: Database, *, max_jobs: int = 4) -> None:
    """Serves until interrupted; a running job goes back to the queue.

    Raises:
        InvalidInputError: the address is taken, or open to others without a key.
    """
    configure_logging(settings.log_level, settings.log_format)
    check_versions()
    check_binding(settings, database)
    telemetry = start_telemetry()
    app = create_app(settings, database)
    remove_strays(database)
    rest_memory()
    listener = _listen(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=SHUTDOWN_S,
        timeout_keep_alive=30,
        http="h11",
        h11_max_incomplete_event_size=64 * 1024,
    )
    service = Service(
        database,
        ray=settings.ray,
        workers=settings.workers,
        memory=settings.worker_memory,
        max_jobs=max_jobs,
    )
    service.start()
    _greet(settings, listener)
    try:
        Server(config, app.state.services).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises the signal anew once it has shut down
        log.info("server ending")
    finally:
        service.stop()
        if telemetry is not None:
            telemetry.shutdown()


def rest_memory() -> None:
    """Takes what the program consists of out of garbage collection.

    Going through the modules of torch and its kin stops every request for a third of a second, about once in
    a thousand requests.
    """
    gc.freeze()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise InvalidInputError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
            "choose another --port or --host"
        ) from error
    return listener


def _greet(settings: Settings, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    words = "" if is_loopback(settings.host) else "; requests need a key"
    Console(stderr=True, highlight=False).print(
        f"paretoformer on http://{host}:{port}{words}; Ctrl-C ends", markup=False
    )
