"""Ray workers: long-lived actors that hold torch and the data, one per slot, on this machine or a cluster.

The coordinator owns retries: actors never restart by themselves, a dead one is replaced and its work ends as
`worker_lost`. Workers see no database; the data travels once through Ray's object store.
"""

import logging
import os
import re
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from space.errors import UnavailableError

from .stages import Bench, outcome_of
from .work import Outcome, Work

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 60.0
_REACH_TIMEOUT_S = 5.0
_WITHOUT = "use --ray local for workers on this machine, or --ray none to run in this process"
_POLL_STEP_S = 0.2


class _Worker:
    """The actor: one thread, torch pinned to it."""

    def __init__(self, bench: Bench, log_level: int) -> None:
        import torch

        logging.basicConfig(level=log_level, format="%(asctime)s %(name)s %(levelname)s %(message)s")
        torch.set_num_threads(1)
        self._bench = bench

    def ready(self) -> int:
        return os.getpid()

    def run(self, work: Work) -> Outcome:
        return outcome_of(work, self._bench)


@dataclass
class _Slot:
    actor: Any
    future: Any = None
    """Ray's reference to the running call, None when the slot is free."""
    work: Work | None = None
    deadline: float = float("inf")


def connect(address: str, num_slots: int | None = None) -> bool:
    """Connects this process to Ray; "local" starts one on this machine. True when it was started here.

    `num_slots`: workers that a Ray started here has room for; the number of cores by default.

    Raises:
        UnavailableError: no such cluster, or Ray cannot start; the message says how to go on without it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return False
    _check_reachable(address)
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "namespace": "paretoformer",
    }
    try:
        if address == "local":
            root = Path(tempfile.gettempdir()) / f"pf-ray-{os.getuid()}"  # Ray's sockets allow 107 characters
            options |= {"include_dashboard": False, "_temp_dir": str(root), "num_cpus": num_slots}
            ray.init(address="local", **options)
            return True
        ray.init(address=address, **options)
    except (ConnectionError, OSError, RuntimeError, TimeoutError, ValueError) as error:
        raise UnavailableError(
            f"Ray at '{address}' is not available: {str(error).splitlines()[0]}",
            hint=_WITHOUT,
        ) from error
    return False


def _check_reachable(address: str) -> None:
    """Ray itself waits for minutes for a cluster that is not there.

    Raises:
        UnavailableError: the text is no address, or nobody listens.
    """
    if address in ("local", "auto"):
        return
    match = re.fullmatch(r"(?:ray://)?([^:/]+):(\d{1,5})", address)
    if match is None:
        raise UnavailableError(
            f"'{address}' is not a Ray address; write HOST:PORT or ray://HOST:PORT", hint=_WITHOUT
        )
    try:
        socket.create_connection((match[1], int(match[2])), timeout=_REACH_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise UnavailableError(f"Ray at '{address}' does not answer: {error}", hint=_WITHOUT) from error


class RayExecutor:
    """`num_slots` actors, each busy with at most one piece of work."""

    def __init__(self, bench: Bench, *, address: str = "local", num_slots: int) -> None:
        self._owns_ray = connect(address, num_slots)
        import ray

        room = max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
        if room < num_slots:  # a worker without a core never starts, and its work would end as overdue
            log.warning("fewer workers than asked for", extra={"asked": num_slots, "cores": room})
            num_slots = room

        self._ray = ray
        self._bench = ray.put(bench)
        self._actor_class = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Worker)
        self._log_level = logging.getLogger().getEffectiveLevel()
        self._slots = [_Slot(self._new_actor()) for _ in range(num_slots)]
        self._await_first()

    def _await_first(self) -> None:
        """Workers that can never start must not fail one trial after the other.

        Raises:
            UnavailableError: none has answered in a minute, or one died while starting.
        """
        answers = [slot.actor.ready.remote() for slot in self._slots]
        try:
            first, _ = self._ray.wait(answers, num_returns=1, timeout=_START_TIMEOUT_S)
            if not first:
                raise UnavailableError(f"no Ray worker answered in {_START_TIMEOUT_S:.0f} s", hint=_WITHOUT)
            self._ray.get(first)
        except self._ray.exceptions.RayError as error:
            self.close()
            raise UnavailableError(f"a Ray worker cannot start: {error}", hint=_WITHOUT) from error
        except UnavailableError:
            self.close()
            raise

    def _new_actor(self) -> Any:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        options = {"runtime_env": {"env_vars": threads}}
        return self._actor_class.options(**options).remote(self._bench, self._log_level)

    @property
    def num_slots(self) -> int:
        return len(self._slots)

    @property
    def num_busy(self) -> int:
        return sum(slot.work is not None for slot in self._slots)

    def pids(self) -> list[int]:
        """Process ids of the workers (waits until they answer)."""
        return list(
            self._ray.get([slot.actor.ready.remote() for slot in self._slots], timeout=_START_TIMEOUT_S)
        )

    def submit(self, work: Work) -> None:
        slot = next(slot for slot in self._slots if slot.work is None)
        slot.future = slot.actor.run.remote(work)
        slot.work = work
        slot.deadline = time.monotonic() + work.timeout_s

    def poll(self, timeout_s: float) -> Sequence[Outcome]:
        futures = {slot.future: slot for slot in self._slots if slot.work is not None}
        if not futures:
            time.sleep(min(timeout_s, _POLL_STEP_S))
            return []
        done, _ = self._ray.wait(list(futures), num_returns=1, timeout=timeout_s)
        if done:
            done, _ = self._ray.wait(list(futures), num_returns=len(futures), timeout=0)
        outcomes = [self._finish(futures[future]) for future in done]
        now = time.monotonic()
        for slot in self._slots:
            if slot.work is not None and now > slot.deadline:
                outcomes.append(
                    Outcome(
                        slot.work.key, reason="timeout", message=f"stopped after {slot.work.timeout_s:.0f} s"
                    )
                )
                self._replace(slot)
        return outcomes

    def _finish(self, slot: _Slot) -> Outcome:
        work = slot.work
        assert work is not None
        try:
            outcome: Outcome = self._ray.get(slot.future)
        except self._ray.exceptions.OutOfMemoryError as error:
            self._replace(slot)
            return Outcome(work.key, reason="out_of_memory", message=str(error).splitlines()[0])
        except self._ray.exceptions.RayError as error:  # the actor, its host or its environment
            log.warning("worker lost", extra={"work": work.key, "cause": type(error).__name__})
            self._replace(slot)
            return Outcome(work.key, reason="worker_lost", message="the worker process died")
        slot.future = slot.work = None
        return outcome

    def _replace(self, slot: _Slot) -> None:
        self._ray.kill(slot.actor, no_restart=True)
        slot.actor = self._new_actor()
        slot.future = slot.work = None

    def cancel_all(self) -> None:
        for slot in self._slots:
            if slot.work is not None:
                self._replace(slot)

    def close(self) -> None:
        """Kills the workers, and Ray itself when this executor started it."""
        for slot in self._slots:
            self._ray.kill(slot.actor, no_restart=True)
        self._slots = []
        if self._owns_ray:
            self._ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
