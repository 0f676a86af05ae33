"""A time limit on work in the calling thread.

A timer asks the interpreter to raise in that thread; the exception arrives between two bytecodes, so a single
long native call is not interrupted, a training of many steps is. Workers in processes of their own are killed
instead (`search.workers.ray`).
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Overdue(BaseException):
    """The limit is over. No `Exception`: what runs must not take it for a failure of its own."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises `Overdue` in this thread when the block takes longer than `seconds`."""
    thread = threading.get_ident()
    lock = threading.Lock()
    is_open = True

    def interrupt() -> None:
        with lock:
            if is_open:
                _raise_in(thread, Overdue)

    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            is_open = False
        timer.cancel()


def _raise_in(thread: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))
