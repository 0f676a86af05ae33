"""The workers of a service, shared by the jobs it coordinates: Ray's, started with the first job, or none
besides the calling process."""

import logging
import os
import threading
from pathlib import Path

from evaluators.latency import device_key

from .plan import JobPlan
from .records import JobRecord
from .storage.database import Database
from .workers.inline import InlineExecutor
from .workers.ray import RayExecutor
from .workers.ray_pool import RayPool
from .workers.shares import Shares
from .workers.stages import Bench
from .workers.work import Executor

log = logging.getLogger(__name__)

NO_RAY = "none"
"""Value of `ray` that runs everything in the calling process."""


class Crew:
    """Hands every job an executor."""

    def __init__(
        self,
        database: Database,
        *,
        ray: str = "local",
        workers: int | None = None,
        memory: int | None = None,
    ) -> None:
        """`memory`: bytes of one worker; by default its share of the machine."""
        self._database = database
        self._ray = ray
        self._workers = workers
        self._memory = memory
        self._lock = threading.Lock()
        self._pool: RayPool | None = None
        self._shares = Shares()
        self._one_at_a_time = threading.Lock()

    def executor(self, plan: JobPlan, job: JobRecord) -> Executor:
        """
        Raises:
            UnavailableError: Ray cannot be reached.
        """
        bench = make_bench(plan, self._database)
        if self._ray == NO_RAY:
            return InlineExecutor(bench, turn=self._one_at_a_time)
        return RayExecutor(
            bench,
            pool=self._ray_pool(),
            job_id=job.id,
            tenant=job.tenant,
            position=int(job.created_at.timestamp() * 1e6),
            target=plan.target,
            device=job.context.get("device_key") or device_key(plan.target),
        )

    def _ray_pool(self) -> RayPool:
        """The one there is, or one anew where its cluster is gone or was started again."""
        with self._lock:
            if self._pool is not None and not self._pool.is_alive():
                log.info("connecting to Ray anew", extra={"address": self._ray})
                self._pool.close()
                self._pool = None
            if self._pool is None:
                slots = self._workers or (os.cpu_count() or 1 if self._ray == "local" else None)
                self._pool = RayPool(self._ray, slots, memory=self._memory)
            return self._pool

    def close(self) -> None:
        with self._lock:
            if self._pool is not None:
                self._pool.close()
                self._pool = None


def make_bench(plan: JobPlan, database: Database) -> Bench:
    """What workers need of a job; makes the folders they write to."""
    data = Path(database.data_dir).resolve()
    for folder in ("training", "latency"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    return Bench(plan.data, plan.target, data / "training", data / "latency", database.data_url)
