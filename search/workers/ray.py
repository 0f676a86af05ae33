"""The executor of one job on Ray workers: its own, or a share of those that several jobs use."""

import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from evaluators.latency import Target
from space.errors import UnavailableError

from .ray_connection import connect
from .ray_pool import MEASURING, Host, RayPool, Run, Slot
from .seat import Seat
from .stages import outcome_of
from .work import Outcome, Work

__all__ = ["RayExecutor", "connect"]

_NO_MACHINE_S = 120.0
"""How long work that needs a machine like the job's waits for one."""


class RayExecutor:
    """Work of one job. Each worker is busy with at most one piece of work; no two of a host measure at once,
    and trainings there pause meanwhile (`evaluators.latency.host_lock`)."""

    is_in_process = False

    def __init__(
        self,
        bench: Any,
        *,
        address: str = "local",
        num_slots: int | None = None,
        memory: int | None = None,
        pool: RayPool | None = None,
        job_id: str = "job",
        tenant: str = "",
        position: int = 0,
        target: Target | None = None,
        device: str = "",
        run: Run = outcome_of,
    ) -> None:
        """`pool`: workers shared with other jobs, else `num_slots` at `address` of its own, with `memory`
        bytes each. `target` and `device`: latencies are measured only on machines with this key. `run`: what
        a worker does.

        Raises:
            UnavailableError: Ray cannot be reached, or no worker starts.
        """
        self._owns_pool = pool is None
        self._pool = pool or RayPool(address, num_slots, memory=memory)
        self._run, self._name = run, job_id
        self._bench = self._pool.put(bench)
        self._target, self._device = target, device
        self._slots: list[Slot] = []
        self._queue: deque[tuple[Work, float]] = deque()
        """Work that waits for a worker that may do it, and since when."""
        self._seat = Seat(
            self._pool.shares, job_id, tenant=tenant, position=position, free=self._pool.num_free
        )

    @property
    def num_busy(self) -> int:
        return len(self._slots) + len(self._queue)

    @property
    def num_slots(self) -> int:
        """Those it has, and one more if one is free and its turn has come."""
        return self.num_busy + (not self._queue and self._seat.may_take())

    @property
    def has_workers(self) -> bool:
        return self._pool.num_ready > 0

    def hosts(self) -> list[Host]:
        """Where workers run (waits until all have answered)."""
        return self._pool.await_all()

    def pids(self) -> list[int]:
        """Process ids of the workers (waits until all have answered)."""
        return [host.pid for host in self.hosts()]

    def submit(self, work: Work) -> None:
        self._seat.take()
        self._queue.append((work, time.monotonic()))
        self._start_queued()

    def _start_queued(self) -> None:
        while self._queue:
            work, since = self._queue[0]
            slot = self._pool.start(
                work, self._run, self._name, self._bench, device=self._device, target=self._target
            )
            if slot is None:
                self._check_wait(work, since)
                return
            self._queue.popleft()
            self._slots.append(slot)

    def _check_wait(self, work: Work, since: float) -> None:
        if work.stage in MEASURING and self.has_workers and time.monotonic() - since > _NO_MACHINE_S:
            raise UnavailableError(
                f"no worker runs on '{self._device}', where the job's latencies are measured",
                hint="add such a machine to the cluster, or submit the job from a machine like its workers",
            )

    def poll(self, timeout_s: float) -> Sequence[Outcome]:
        self._seat.settle()
        self._pool.look()
        self._start_queued()
        outcomes = [self._finish(slot) for slot in self._pool.wait(self._slots, timeout_s)]
        now = time.monotonic()
        overdue = [slot for slot in self._slots if now > slot.deadline]
        return outcomes + [self._end_overdue(slot) for slot in overdue]

    def _finish(self, slot: Slot) -> Outcome:
        outcome = self._pool.finish(slot)
        self._free(slot)
        return outcome

    def _end_overdue(self, slot: Slot) -> Outcome:
        work = slot.work
        assert work is not None
        self._pool.replace(slot)
        self._free(slot)
        return Outcome(work.key, reason="timeout", message=f"stopped after {work.timeout_s:.0f} s")

    def _free(self, slot: Slot) -> None:
        self._slots.remove(slot)
        self._seat.give_back()

    def cancel_all(self) -> None:
        for slot in list(self._slots):
            self._pool.replace(slot)
            self._free(slot)
        for _ in range(len(self._queue)):
            self._queue.popleft()
            self._seat.give_back()

    def close(self) -> None:
        """Kills what still runs of this job, and the workers when they are its own."""
        self._seat.leave()
        if self._owns_pool:
            self._pool.close()
        else:
            self.cancel_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
