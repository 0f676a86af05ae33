"""Ray actors that hold torch, one per slot, on this machine or a cluster; jobs borrow them.

Actors never restart by themselves: a dead one is replaced, and its work ends as `worker_lost`. One that ran
out of memory, or whose device is lost, is replaced too. A new actor takes work only once it has answered, so
a worker that finds no machine delays nobody's work. The data of a job travels once to every worker, through
Ray's object store.
"""

import logging
import os
import platform
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from evaluators.latency import Target, device_facts, device_key
from space.errors import UnavailableError

from .memory_limit import NO_LIMIT, MemoryLimit, share_of
from .ray_connection import WITHOUT
from .ray_link import RayLink
from .shares import Shares
from .stages import Bench
from .work import Outcome, Stage, Work

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
_CHECK_EVERY_S = 2.0
_KEPT_BENCHES = 4
MEASURING: frozenset[Stage] = frozenset({"screen", "measure"})
"""Stages with latencies in them: only on machines like the one the job is for."""

Run = Callable[[Work, Any], Outcome]


@dataclass(frozen=True, slots=True)
class Host:
    """Where a worker runs."""

    pid: int
    name: str
    node: str
    facts: Mapping[str, Any]


class _Worker:
    """The actor: one thread, torch pinned to it."""

    def __init__(self, log_level: int, memory: int | None = NO_LIMIT) -> None:
        """`memory`: bytes; None is a fair share of the machine, or no limit beside a GPU, whose driver maps
        more than it uses."""
        import torch

        logging.basicConfig(level=log_level, format="%(asctime)s %(name)s %(levelname)s %(message)s")
        torch.set_num_threads(1)
        if memory is None:
            memory = NO_LIMIT if torch.cuda.is_available() else self._share()
        self._limit = MemoryLimit.of(memory)
        self._benches: OrderedDict[str, Any] = OrderedDict()

    def _share(self) -> int:
        import ray

        here = ray.get_runtime_context().get_node_id()
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        (has,) = [node["Resources"] for node in nodes if node["NodeID"] == here]
        return share_of(has.get("memory", 0.0), has.get("CPU", 1.0))

    def ready(self) -> Host:
        import ray

        node = ray.get_runtime_context().get_node_id()
        return Host(os.getpid(), platform.node(), node, device_facts())

    def run(self, run: Run, name: str, bench: Sequence[Any], work: Work) -> Outcome:
        """`bench`: a list with Ray's reference to it, which is followed once per worker."""
        import ray

        if name not in self._benches:
            found = ray.get(bench[0])
            self._benches[name] = found.here() if isinstance(found, Bench) else found
            while len(self._benches) > _KEPT_BENCHES:
                self._benches.popitem(last=False)
        self._benches.move_to_end(name)
        self._limit.set()
        outcome = Outcome(work.key, reason="out_of_memory", message=f"{work.stage} ran out of memory")
        with suppress(MemoryError):  # not even room to say so
            outcome = run(work, self._benches[name])
        if outcome.reason == "out_of_memory" and self._limit.memory:
            limit = f"its worker may have {self._limit.memory / 1e9:.1f} GB (PARETOFORMER_WORKER_MEMORY)"
            outcome = replace(outcome, message=f"{outcome.message}; {limit}")
        return outcome


@dataclass(eq=False)
class Slot:
    """A worker and what it does."""

    actor: Any
    answer: Any
    """Reference to its first answer; None once it came."""
    host: Host | None = None
    future: Any = None
    work: Work | None = None
    deadline: float = float("inf")

    @property
    def is_free(self) -> bool:
        return self.host is not None and self.work is None


class RayPool:
    """The workers of this process. Jobs use it through `search.workers.ray.RayExecutor`, from any thread."""

    def __init__(
        self, address: str = "local", num_slots: int | None = None, *, memory: int | None = None
    ) -> None:
        """`memory`: bytes of a worker; by default its share of the machine it is on.

        Raises:
            UnavailableError: no such cluster, or no worker has answered in a minute.
        """
        self.shares = Shares()
        self._lock = threading.RLock()
        self._link = RayLink(address, num_slots)
        import ray

        self._ray = ray
        self._actor_class: Any = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Worker)
        self._log_level = logging.getLogger().getEffectiveLevel()
        self._wanted, self._memory = num_slots, memory
        self._checked_at = time.monotonic()
        self._slots: list[Slot] = []
        self._start_workers()

    def _room(self) -> int:
        """As many workers as asked for, or as the cluster has cores for: one without a core never starts."""
        cores = max(1, int(self._ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
        if self._wanted is not None and cores < self._wanted:
            log.warning("fewer workers than asked for", extra={"asked": self._wanted, "cores": cores})
        return cores if self._wanted is None else min(self._wanted, cores)

    def _new_slot(self) -> Slot:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        options = {"runtime_env": {"env_vars": threads}}
        actor = self._actor_class.options(**options).remote(self._log_level, self._memory)
        return Slot(actor, actor.ready.remote())

    def _start_workers(self) -> None:
        """Waits for the first: workers that can never start must not fail one trial after the other."""
        try:
            with self._link.use():
                self._slots = [self._new_slot() for _ in range(self._room())]
                self._ray.get(self._first_answer())
            self.look()
        except self._ray.exceptions.RayError as error:
            self.close()
            raise UnavailableError(f"a Ray worker cannot start: {error}", hint=WITHOUT) from error
        except UnavailableError:
            self.close()
            raise

    def _first_answer(self) -> Any:
        answers = [slot.answer for slot in self._slots]
        end = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < end:
            first, _ = self._ray.wait(answers, num_returns=1, timeout=_CHECK_EVERY_S)
            if first:
                return first[0]
            self._link.check()
        raise UnavailableError(f"no Ray worker answered in {_START_TIMEOUT_S:.0f} s", hint=WITHOUT)

    # -- what there is -----------------------------------------------------------------------------

    @property
    def num_ready(self) -> int:
        with self._lock:
            return sum(slot.host is not None for slot in self._slots)

    def is_alive(self) -> bool:
        """Whether its workers can still be used: the cluster is there, and the same as when they began."""
        with suppress(UnavailableError):
            self._link.check()
            return True
        return False

    def num_free(self) -> int:
        with self._lock:
            return sum(slot.is_free for slot in self._slots)

    def hosts(self) -> list[Host]:
        """Of the workers that have answered."""
        with self._lock:
            return [slot.host for slot in self._slots if slot.host is not None]

    def await_all(self) -> list[Host]:
        """Waits for every worker."""
        end = time.monotonic() + _START_TIMEOUT_S
        while len(found := self.hosts()) < len(self._slots) and time.monotonic() < end:
            self.look()
            time.sleep(0.05)
        return found

    def put(self, bench: Any) -> Sequence[Any]:
        with self._link.use():
            return [self._ray.put(bench)]

    # -- work --------------------------------------------------------------------------------------

    def start(
        self, work: Work, run: Run, name: str, bench: Sequence[Any], *, device: str, target: Target | None
    ) -> Slot | None:
        """Gives work to a free worker; None when none of them may do it. `device`: the key of the machines
        that latencies of `target` are measured on; without a target any will do."""
        with self._lock:
            free = [slot for slot in self._slots if slot.is_free]
            if target is not None:
                alike = [slot for slot in free if slot.host and device_key(target, slot.host.facts) == device]
                free = alike if work.stage in MEASURING else [s for s in free if s not in alike] or alike
            if not free:
                return None
            slot = free[0]
            with self._link.use():
                slot.future = slot.actor.run.remote(run, name, bench, work)
            slot.work, slot.deadline = work, time.monotonic() + work.timeout_s
            return slot

    def wait(self, slots: Sequence[Slot], timeout_s: float) -> list[Slot]:
        """Those whose work has ended, after at most `timeout_s` for the first."""
        if not slots:
            time.sleep(timeout_s)
            return []
        futures = {slot.future: slot for slot in slots}
        with self._link.use():
            done, _ = self._ray.wait(list(futures), num_returns=1, timeout=timeout_s)
            if done:
                done, _ = self._ray.wait(list(futures), num_returns=len(futures), timeout=0)
        return [futures[future] for future in done]

    def finish(self, slot: Slot) -> Outcome:
        """The outcome of work that has ended, or that died with its worker."""
        work = slot.work
        assert work is not None
        try:
            with self._link.use():
                outcome: Outcome = self._ray.get(slot.future)
        except self._ray.exceptions.OutOfMemoryError as error:
            self.replace(slot)
            return Outcome(work.key, reason="out_of_memory", message=str(error).splitlines()[0])
        except self._ray.exceptions.RayError as error:  # the actor, its host or its environment
            log.warning("worker lost", extra={"work": work.key, "cause": type(error).__name__})
            self.replace(slot)
            return Outcome(work.key, reason="worker_lost", message="the worker process died")
        if outcome.lost or outcome.reason == "out_of_memory":  # a fresh process has its memory and device
            self.replace(slot)
        with self._lock:
            slot.future = slot.work = None
        return outcome

    def replace(self, slot: Slot) -> None:
        """Kills the worker and starts another in its place, unless the cluster is gone."""
        with self._lock:
            slot.host = slot.future = slot.work = None
            with suppress(UnavailableError), self._link.use():
                self._kill(slot)
                fresh = self._new_slot()
                slot.actor, slot.answer = fresh.actor, fresh.answer

    def _kill(self, slot: Slot) -> None:
        self._ray.kill(slot.actor, no_restart=True)

    def look(self) -> None:
        """Notices new workers, and every two seconds machines that came or went.

        Raises:
            UnavailableError: the cluster is gone.
        """
        with self._lock, self._link.use():
            for slot in [slot for slot in self._slots if slot.answer is not None]:
                self._hear(slot)
            now = time.monotonic()
            if now - self._checked_at >= _CHECK_EVERY_S:
                self._checked_at = now
                self._check_cluster()

    def _hear(self, slot: Slot) -> None:
        done, _ = self._ray.wait([slot.answer], timeout=0)
        if done:
            try:
                slot.host, slot.answer = self._ray.get(slot.answer), None
            except self._ray.exceptions.RayError:  # died while it started: its machine may be gone
                self.replace(slot)

    def _check_cluster(self) -> None:
        if not self._link.check():
            return
        nodes = self._ray.nodes()  # type: ignore[no-untyped-call]
        alive = {node["NodeID"] for node in nodes if node["Alive"]}
        for slot in self._slots:
            if slot.host is not None and slot.work is None and slot.host.node not in alive:
                self.replace(slot)
        self._slots += [self._new_slot() for _ in range(self._room() - len(self._slots))]

    def close(self) -> None:
        """Kills the workers, and disconnects from Ray where this pool started it, or where it is gone."""
        with self._lock:
            with suppress(UnavailableError), self._link.use():
                for slot in self._slots if self._link.check() else ():
                    self._kill(slot)
            self._slots = []
        self._link.close()
