"""This process's tie to a Ray cluster, which is cut before Ray ends the process for its sake.

Ray ends a process (it exits, nothing is raised) that its cluster's head has not answered for a minute, that
asks a head which was started anew for something, or whose machine's own Ray node (the raylet) is gone. So the
head and that node are asked every two seconds, past Ray's own connection; when one of them is gone, Ray is
disconnected, once no call is in it any more. After that the process may connect to the cluster anew.
"""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from space.errors import UnavailableError

from .ray_connection import WITHOUT, connect, is_reachable

log = logging.getLogger(__name__)

_CHECK_EVERY_S = 2.0
_GONE_AFTER_S = 6.0
_LEAVE_S = 20.0
"""How long a call that is in Ray is waited for: Ray ends the process in less than a minute."""


class RayLink:
    """A connection to Ray. Every call of Ray stands inside `use`; any thread may do any of this."""

    def __init__(self, address: str, num_slots: int | None = None) -> None:
        """
        Raises:
            UnavailableError: no such cluster, or Ray cannot start.
        """
        self._owns_ray = connect(address, num_slots)
        import ray

        self._ray = ray
        self._head: str = ray.get_runtime_context().gcs_address
        self._cluster = cluster_at(self._head)
        self._node = _open_node()
        self._gone: str | None = None
        self._answered_at = time.monotonic()
        self._checking, self._closing = threading.Lock(), threading.Lock()
        self._calls = threading.Condition()
        self._num_calls = 0
        self._is_closed = False
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="ray-watch", daemon=True).start()

    @property
    def _is_over(self) -> bool:
        return self._is_closed or self._gone is not None

    @contextmanager
    def use(self) -> Iterator[None]:
        """Ray stays connected inside.

        Raises:
            UnavailableError: it is not connected any more, or to a cluster that is gone.
        """
        with self._calls:
            if self._is_over:
                raise self._unavailable()
            self._num_calls += 1
        try:
            yield
        finally:
            with self._calls:
                self._num_calls -= 1
                self._calls.notify_all()

    def check(self) -> bool:
        """Whether the head answers; False while that is no reason yet to take it for gone.

        Raises:
            UnavailableError: the cluster is gone, and stays so for this connection.
        """
        with self._checking:
            is_there = not self._is_over and self._answers()
        if self._is_over:
            raise self._unavailable()
        return is_there

    def _answers(self) -> bool:
        if self._node is not None and _has_ended(self._node):
            self._gone = "the Ray node of this machine is gone"
        elif not is_reachable(self._head):
            if time.monotonic() - self._answered_at > _GONE_AFTER_S:
                self._gone = f"the head of the Ray cluster at {self._head} is gone"
            return False
        elif (found := cluster_at(self._head)) and self._cluster and found != self._cluster:
            self._gone = f"the Ray cluster at {self._head} is gone: its head was started anew"
        self._answered_at = time.monotonic()
        return True

    def _unavailable(self) -> UnavailableError:
        return UnavailableError(self._gone or "Ray was disconnected", hint=WITHOUT)

    def _watch(self) -> None:
        while not self._ended.wait(_CHECK_EVERY_S):
            try:
                self.check()
            except UnavailableError as error:
                if not self._ended.is_set():
                    log.warning("disconnecting from Ray", extra={"problem": error.message})
                    self.close()

    def close(self) -> None:
        """Disconnects from Ray where it was started here, or is gone; returns when that is done."""
        with self._closing:
            self._ended.set()
            with self._calls:
                if self._is_closed:
                    return
                self._is_closed = True
                self._calls.wait_for(lambda: self._num_calls == 0, timeout=_LEAVE_S)
            if self._owns_ray or self._gone or not is_reachable(self._head):
                self._ray.shutdown()
            if self._node is not None:
                self._node.close()


def cluster_at(head: str) -> str | None:
    """The id of the cluster whose head answers at HOST:PORT; None where it does not say. A head that was
    started anew has another. Takes three milliseconds; forty seconds where somebody listens and is silent."""
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Ray's stubs leave it out
    from ray.exceptions import RpcError

    with suppress(RpcError):
        return str(GcsClient(address=head).cluster_id.hex())
    return None


def _open_node() -> socket.socket | None:
    """A connection to this machine's own Ray node that nothing is sent on: it ends when the node does. None
    where there is no such node (`ray://`)."""
    from ray._private.worker import global_worker

    if global_worker.node is None:
        return None
    node = socket.socket(socket.AF_UNIX)
    with suppress(OSError):  # then it is not connected, which `_has_ended` tells
        node.connect(global_worker.node.raylet_socket_name)
    node.setblocking(False)
    return node


def _has_ended(node: socket.socket) -> bool:
    try:
        return node.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
