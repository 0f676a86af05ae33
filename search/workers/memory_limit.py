"""How much memory a worker may have: on Linux the kernel refuses what goes past it (RLIMIT_DATA).

    limit of data = data at the start + memory - resident at the start

The allocation that goes too far fails, and the piece of work it belongs to with it; other workers and the
machine do not notice. What was asked for counts, whether it is touched or not; address space that is only
reserved does not. Processes that a worker starts have the same limit, each for itself.

Source: getrlimit(2), proc_pid_statm(5).
"""

import sys
from dataclasses import dataclass
from pathlib import Path

NO_LIMIT = 0
LEAST_SHARE = 2 * 10**9
"""Of a worker that nobody gave a limit: with less than ordinary trainings need, nothing would be won."""


def share_of(memory: float, cores: float) -> int:
    """Bytes that one of the workers of a machine may have, one worker per core.

    >>> share_of(16e9, 4), share_of(16e9, 64)
    (4000000000, 2000000000)
    """
    return max(LEAST_SHARE, int(memory / max(1.0, cores)))


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """Of this process."""

    memory: int = NO_LIMIT
    """Bytes it may have in all."""
    data: int = NO_LIMIT
    """Bytes of data, as the kernel counts them, that this is."""

    @classmethod
    def of(cls, memory: int) -> "MemoryLimit":
        """From what the process has now; no limit where the system has none of this kind.

        Raises:
            ValueError: it has more than that already.
        """
        if memory == NO_LIMIT or sys.platform != "linux":
            return cls()
        import resource

        pages = [int(field) for field in Path("/proc/self/statm").read_text(encoding="ascii").split()]
        resident, data = pages[1] * resource.getpagesize(), pages[5] * resource.getpagesize()
        if memory <= resident:
            raise ValueError(
                f"a worker has {resident:,} bytes before it does anything; allow it more than {memory:,}"
            )
        return cls(memory, data + memory - resident)

    def set(self) -> None:
        """Also takes back what a training that went on with smaller batches was given beyond it."""
        if self.data == NO_LIMIT or sys.platform != "linux":
            return
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = self.data if hard == resource.RLIM_INFINITY else min(self.data, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
