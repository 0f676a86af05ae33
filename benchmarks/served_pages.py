"""The pages of a database on a free port of this machine, without a coordinator: for pictures and timings."""

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from api.app import create_app
from api.cli import GC_THRESHOLD
from api.serving import rest_memory
from api.settings import Settings
from search.storage.database import Database

START_S = 20.0


@contextmanager
def served(database: Database, settings: Settings | None = None) -> Iterator[str]:
    """Address of a server that ends with the block."""
    config = uvicorn.Config(
        create_app(settings or Settings(), database), host="127.0.0.1", port=0, log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + START_S
    while not server.started:
        if time.monotonic() > end or not thread.is_alive():
            raise RuntimeError(f"the server did not start within {START_S:g} s")
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    gc.set_threshold(*GC_THRESHOLD)  # as `paretoformer serve` does
    rest_memory()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
