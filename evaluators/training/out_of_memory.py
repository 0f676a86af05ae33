"""What counts as running out of memory."""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from space.errors import EvaluationError

REFUSED = ("can't allocate memory", "not enough memory", "Failed to allocate memory")
"""What torch's allocator for the CPU says on POSIX systems and on Windows, and ONNX Runtime's."""
UNMADE = ("could not create a", "could not execute a primitive")
"""What oneDNN says, whatever was the matter; in a process with a limit it is memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """torch reports a failed allocation on the CPU as a bare RuntimeError, ONNX Runtime as a class of its
    own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = (*REFUSED, *UNMADE) if _has_limit() else REFUSED
    return isinstance(error, Exception) and any(one in str(error) for one in words)


def _has_limit() -> bool:
    """Whether the kernel refuses this process memory beyond some amount (`search.workers.memory_limit`)."""
    if sys.platform != "linux":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY


def give_back() -> None:
    """Before a smaller attempt: hands what is free inside this process to the system.

    A limit of the process (`search.workers.memory_limit`) counts addresses, and free memory in the middle of
    the heap keeps its own. So the limit gives way by as much as was handed back: oneDNN can compile nothing
    more in a thread that was once refused the pages of a kernel, however much is free later.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # untyped in torch
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is None:
        return
    resident, data = _resident_and_data()
    trim(0)
    if _has_limit():
        import resource

        left, kept = _resident_and_data()
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        more = soft + max(0, (resident - left) - (data - kept))
        resource.setrlimit(resource.RLIMIT_DATA, (more if hard < 0 else min(more, hard), hard))


def _resident_and_data() -> tuple[int, int]:
    """Bytes of this process."""
    pages = [int(field) for field in Path("/proc/self/statm").read_text(encoding="ascii").split()]
    return pages[1] * mmap.PAGESIZE, pages[5] * mmap.PAGESIZE


@contextmanager
def out_of_memory_named() -> Iterator[None]:
    """Inside, running out of memory is an EvaluationError with that reason."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise EvaluationError(
            "out of memory even with one example at a time; use a shorter length or smaller models",
            reason="out_of_memory",
        ) from error
