"""One measurement at a time on a host, and no training step beside it.

    measurement:  lock turnstile (exclusive), lock room (exclusive), measure, release both
    training:     pass the turnstile (shared, at once released), lock room (shared), one step, release

A measurement that waits holds the turnstile, so no new step begins and it cannot starve; steps already in the
room finish. Both locks are `flock` on files in the host's temporary folder: the kernel releases them when a
process dies, however it dies, and a stale file means nothing.

Readers and writers with a turnstile: Downey, The Little Book of Semaphores, section 4.2.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from space.errors import EvaluationError

POLL_S = 0.005


@contextlib.contextmanager
def quiet_host(timeout_s: float = 120.0, *, folder: Path | None = None) -> Iterator[bool]:
    """The host to oneself. Yields whether every training on it has paused.

    False after `timeout_s` of waiting for a training step that does not end: measure, and flag the value
    `contended`.

    Raises:
        EvaluationError: other measurements held the host for all of `timeout_s` (reason `timeout`).
    """
    deadline = time.monotonic() + timeout_s
    with _opened("turnstile", folder) as turnstile:
        if not _lock_before(turnstile, deadline):
            raise EvaluationError(
                f"another measurement held this host for {timeout_s:g} s; wait for it, or find the process "
                f"that holds {_path('turnstile', folder)}",
                reason="timeout",
            )
        with _opened("room", folder) as room:
            yield _lock_before(room, deadline)


@contextlib.contextmanager
def training_step(*, folder: Path | None = None) -> Iterator[None]:
    """Around each training step: waits while a measurement runs on this host; some 20 µs when none does."""
    with _opened("turnstile", folder) as turnstile:
        fcntl.flock(turnstile, fcntl.LOCK_SH)
    with _opened("room", folder) as room:
        fcntl.flock(room, fcntl.LOCK_SH)
        yield


def _lock_before(file: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        else:
            return True


def _path(name: str, folder: Path | None) -> Path:
    return (folder or Path(tempfile.gettempdir())) / f"paretoformer-{name}.lock"


@contextlib.contextmanager
def _opened(name: str, folder: Path | None) -> Iterator[int]:
    """A descriptor of its own (flock belongs to it, not to the process); closing it releases the lock."""
    path = _path(name, folder)
    try:
        file = os.open(
            path, os.O_RDONLY | os.O_CLOEXEC
        )  # also another user's: locking needs no right to write
    except FileNotFoundError:
        file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(PermissionError):  # another user made it meanwhile
            os.fchmod(file, 0o644)  # whatever the umask: others need to read it
    try:
        yield file
    finally:
        os.close(file)
