"""`paretoformer serve-model`: an exported folder as a small predictor on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from .output import err


def serve_model(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `export` wrote.")],
    file: Annotated[
        str | None, typer.Option("--file", help="Which of its model files; the quantized one by default.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="An address of this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8766,
) -> None:
    """Answers /predict and /generate for an exported model, for trying it; no keys, this machine only."""
    import socket

    import uvicorn

    from space.errors import InvalidInputError

    from ..guard import is_loopback
    from ..model_app import create_model_app
    from ..served_model import ServedModel

    if not is_loopback(host):
        raise InvalidInputError(
            f"host '{host}' can be reached by others, and serve-model has no keys; use 127.0.0.1"
        )
    app = create_model_app(ServedModel(folder, file))
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # what is printed below answers at once
    except OSError as error:
        listener.close()
        raise InvalidInputError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port"
        ) from error
    shown = f"[{host}]" if ":" in host else host
    err().print(
        f"{folder} on http://{shown}:{listener.getsockname()[1]}/docs; Ctrl-C ends",
        markup=False,
        soft_wrap=True,
    )
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[listener])
