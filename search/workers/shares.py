"""Who takes the next free slot when several jobs share the workers.

    the tenant that holds the fewest slots, and of its jobs the oldest one that has something to start

A tenant with ten thousand jobs waits for one with a single job no longer than one slot is busy, and the other
way round. Nothing is taken away from work that runs.
"""

import threading
from dataclasses import dataclass


@dataclass(slots=True)
class _Member:
    tenant: str
    position: int
    """Order of the jobs of a tenant."""
    busy: int = 0
    is_hungry: bool = False
    """Has asked for a slot in vain and not said since that there is nothing to start."""


class Shares:
    """Slots held by jobs; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[str, _Member] = {}

    def join(self, job_id: str, tenant: str, position: int) -> None:
        with self._lock:
            self._members[job_id] = _Member(tenant, position)

    def leave(self, job_id: str) -> None:
        with self._lock:
            self._members.pop(job_id, None)

    def may_take(self, job_id: str, free: int) -> bool:
        """Whether one of the `free` slots is this job's; asking makes it hungry."""
        with self._lock:
            me = self._members[job_id]
            me.is_hungry = True
            held: dict[str, int] = {}
            for member in self._members.values():
                held[member.tenant] = held.get(member.tenant, 0) + member.busy
            waiting = [member for member in self._members.values() if member.is_hungry]
            for _ in range(min(free, len(waiting))):
                first = min(waiting, key=lambda member: (held[member.tenant], member.position))
                if first is me:
                    return True
                held[first.tenant] += 1
                waiting.remove(first)
            return False

    def take(self, job_id: str) -> None:
        with self._lock:
            self._members[job_id].busy += 1

    def give_back(self, job_id: str) -> None:
        with self._lock:
            if job_id in self._members:
                self._members[job_id].busy -= 1

    def rest(self, job_id: str) -> None:
        """The job has nothing to start now."""
        with self._lock:
            if job_id in self._members:
                self._members[job_id].is_hungry = False
