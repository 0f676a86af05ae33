"""Which architecture next, who evaluates it, and what was found: `run`, `JobSpec`, `Result`.

The names are loaded on first use: reading a job file needs neither torch nor Ray.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .job import JobSpec, load_job
    from .running import Result, resume, run

__all__ = ["JobSpec", "Result", "load_job", "resume", "run"]


def __getattr__(name: str) -> Any:
    if name in ("JobSpec", "load_job"):
        from . import job

        return getattr(job, name)
    if name in ("Result", "resume", "run"):
        from . import running

        return getattr(running, name)
    raise AttributeError(f"module 'search' has no attribute '{name}'")
