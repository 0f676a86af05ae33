"""How much memory a worker may have: on Linux the kernel refuses what goes past it (RLIMIT_DATA).

    limit of data = data at the start + memory - resident at the start

The allocation that goes too far fails, and the piece of work it belongs to with it; other workers and the
machine do not notice. What was asked for counts, whether it is touched or not; address space that is only
reserved does not. Processes that a worker starts have the same limit, each for itself.

Source: getrlimit(2), proc_pid_statm(5).
"""

import sys
from pathlib import Path

NO_LIMIT = 0
LEAST_SHARE = 2 * 10**9
"""Of a worker that nobody gave a limit: less than an ordinary training needs is no help to the machine."""


def share_of(memory: float, cores: float) -> int:
    """Bytes that one of the workers of a machine may have, one worker per core.

    >>> share_of(16e9, 4), share_of(16e9, 64)
    (4000000000, 2000000000)
    """
    return max(LEAST_SHARE, int(memory / max(1.0, cores)))


def limit_memory(memory: int) -> int:
    """Lets this process have `memory` bytes from now on; what is in force: the same, or `NO_LIMIT` where the
    system has no such limit.

    Raises:
        ValueError: it has more than that already.
    """
    if memory == NO_LIMIT or sys.platform != "linux":
        return NO_LIMIT
    import resource

    page = resource.getpagesize()
    pages = [int(field) for field in Path("/proc/self/statm").read_text(encoding="ascii").split()]
    resident, data = pages[1] * page, pages[5] * page
    if memory <= resident:
        raise ValueError(f"a worker has {resident:,} bytes before it does anything; allow it more than {memory:,}")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = data + memory - resident
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))
    return memory
