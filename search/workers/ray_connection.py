"""The way into a Ray cluster: one that is started here, or one that has an address."""

import logging
import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from space.errors import UnavailableError

WITHOUT = "use --ray local for workers on this machine, or --ray none to run in this process"
ASKS_FOR_TOKEN = "; where the cluster was started with RAY_AUTH_MODE=token, set that here too"
_REACH_TIMEOUT_S = 5.0


def connect(address: str, num_slots: int | None = None) -> bool:
    """Connects this process to Ray; "local" starts one on this machine. True when it was started here.

    `num_slots`: workers that a Ray started here has room for; the number of cores by default.

    Raises:
        UnavailableError: no such cluster, or Ray cannot start; the message says how to go on without it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return False
    _check_address(address)
    terminate = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "namespace": "paretoformer",
    }
    try:
        if address == "local":
            root = Path(tempfile.gettempdir()) / f"pf-ray-{os.getuid()}"  # Ray's sockets allow 107 characters
            options |= {"include_dashboard": False, "_temp_dir": str(root), "num_cpus": num_slots}
            with _on_loopback():
                _in_lasting_thread(lambda: ray.init(address="local", **options))
            return True
        ray.init(address=address, **options)
    except (ConnectionError, OSError, RuntimeError, TimeoutError, ValueError) as error:
        problem = f"Ray at '{address}' is not available: {str(error).splitlines()[0]}"
        if address != "local" and "RAY_AUTH_MODE" not in os.environ:  # Ray does not say that this is why
            problem += ASKS_FOR_TOKEN
        raise UnavailableError(problem, hint=WITHOUT) from error
    finally:
        _restore(terminate)
    return False


def _in_lasting_thread(start: Callable[[], object]) -> None:
    """Calls `start` in a thread that lives as long as this process: Linux ends Ray's processes with the
    *thread* that started them (Ray sets PR_SET_PDEATHSIG), and a job's thread ends with its job."""
    if threading.current_thread() is threading.main_thread():
        start()
        return
    done: Future[object] = Future()

    def run() -> None:
        try:
            done.set_result(start())
        except BaseException as error:
            done.set_exception(error)
            return
        threading.Event().wait()

    threading.Thread(target=run, name="ray", daemon=True).start()
    done.result()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray that is started meanwhile listens on 127.0.0.1: by itself, it opens ports that run whatever they
    are sent to every machine around. Ray does so where it is not meant for clusters, and has no option."""
    from ray._private import ray_constants

    is_for_clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = is_for_clusters


def _restore(handler: Any) -> None:
    """Ray puts its own handler of SIGTERM in place, which ends the process at once; only the main thread may
    put ours back, the others leave that to it (`api.interruption`)."""
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGTERM, handler)


def is_reachable(address: str) -> bool:
    """Whether somebody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_TIMEOUT_S).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _check_address(address: str) -> None:
    """Ray itself waits for minutes for a cluster that is not there.

    Raises:
        UnavailableError: the text is no address, or nobody listens.
    """
    if address in ("local", "auto"):
        return
    match = re.fullmatch(r"(?:ray://)?([^:/]+):(\d{1,5})", address)
    if match is None:
        raise UnavailableError(
            f"'{address}' is not a Ray address; write HOST:PORT or ray://HOST:PORT", hint=WITHOUT
        )
    try:
        socket.create_connection((match[1], int(match[2])), timeout=_REACH_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise UnavailableError(f"Ray at '{address}' does not answer: {error}", hint=WITHOUT) from error
