"""What counts as running out of memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from space.errors import EvaluationError

REFUSED = ("can't allocate memory", "not enough memory")
"""What torch's allocator for the CPU says: on POSIX systems, and on Windows."""


def is_out_of_memory(error: BaseException) -> bool:
    """torch reports a failed allocation on the CPU as a bare RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in REFUSED)


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
