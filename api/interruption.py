"""A polite end (SIGTERM) as Ctrl-C: what runs is left so that it can be resumed.

Ray's native library puts its own handler of SIGTERM into the process when it starts, which ends it at once.
So the handler is put back: `stop_on_terminate` is cheap and may be called again and again.
"""

import signal
import threading
from types import FrameType


def stop_on_terminate() -> None:
    """SIGTERM raises KeyboardInterrupt in the main thread; elsewhere nothing changes."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
