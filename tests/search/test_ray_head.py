"""`paretoformer worker` keeps its Ray and outlives the head of a cluster: real processes and heads that die.

Latencies are a formula: nothing here is about them, and to measure them waits for a quiet machine.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from search.job import parse_job
from search.plan import plan_job
from search.records import FINAL_JOB_STATES
from search.running import create_job, result
from search.storage import trials
from search.storage.check import check
from search.storage.database import Database
from search.workers.ray_connection import is_reachable

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray"), pytest.mark.timeout(600)]

DIGITS: Mapping[str, Any] = {
    "task": {"kind": "image", "dataset": "digits"},
    "space": {"set": {"d_model": [16, 24], "num_layers": [1, 2]}},
    "training": {"steps": 8, "rungs": 2},
    "screen": {"candidates": 1},
    "references": {"sizes": 1},
    "finalists": {"count": 0},
}
ROOT = Path(__file__).parents[2]
PROGRAM = """
import functools
import search.crew
from api.cli import main
from test_real_searches import untimed
search.crew.RayExecutor = functools.partial(search.crew.RayExecutor, run=untimed())
main()
"""
RAY_WAITS_S = 20
"""How long Ray waits for a head before it ends the process; a minute if it is not told."""


class Machine:
    """A head of a Ray cluster with a core for a worker, that can be lost and started again at its address."""

    def __init__(self) -> None:
        self._node: Any = None
        self.address = ""
        self.start()

    def start(self) -> None:
        from ray.cluster_utils import Cluster

        port = int(self.address.rpartition(":")[2]) if self.address else 0
        cluster = Cluster()
        self._node = cluster.add_node(num_cpus=1, include_dashboard=False, gcs_server_port=port)
        self.address = cluster.address

    def lose(self) -> None:
        """Without a word, with its worker."""
        self._node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        assert not is_reachable(self.address)


class Coordinator:
    """A running `paretoformer worker` and the database of its jobs."""

    def __init__(self, folder: Path, address: str) -> None:
        file = folder / "jobs.db"
        self._database = Database.open(file, data_dir=folder / "data")
        command = ["worker", "--db", str(file), "--ray", address]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent))),
            "PARETOFORMER_DATA": str(folder / "data"),
            "RAY_gcs_rpc_server_reconnect_timeout_s": str(RAY_WAITS_S),
        }
        self._log = folder / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *command],
                cwd=folder, env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text()

    def submit(self, number: int) -> str:
        plan = plan_job(parse_job({**DIGITS, "budget": {"trials": number}}))
        return create_job(self._database, plan).id

    def state(self, job_id: str) -> tuple[str, str | None]:
        job = result(self._database, job_id).job
        return job.state, job.reason

    def num_trained(self, job_id: str) -> int:
        with self._database.read() as session:
            return sum(row.state == "completed" for row in trials.all_trials(session, job_id))

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Fails at once when the process has ended."""
        end = time.monotonic() + 240
        while not is_so():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.1)

    def complete(self, job_id: str) -> None:
        self.wait_until(lambda: self.state(job_id)[0] in FINAL_JOB_STATES)
        assert self.state(job_id) == ("completed", "budget_reached"), self.log
        assert check(self._database) == []

    def terminate(self) -> int:
        """As systemd and containers do; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=60)

    def close(self) -> None:
        try:
            self.terminate()
        finally:
            self._process.kill()
            self._process.wait()
            self._database.close()


@pytest.fixture
def head() -> Iterator[Machine]:
    machine = Machine()
    yield machine
    machine.lose()


@pytest.fixture
def coordinator(head: Machine, tmp_path: Path) -> Iterator[Coordinator]:
    with closing(Coordinator(tmp_path, head.address)) as started:
        yield started


def test_f18_jobs_share_a_ray_of_their_coordinators_own_and_a_terminate_in_one_ends_well(
    tmp_path: Path,
) -> None:
    """Linux ends what a thread has started with that thread, if it was asked to: each job has one."""
    with closing(Coordinator(tmp_path, "local")) as coordinator:
        coordinator.complete(coordinator.submit(2))
        coordinator.complete(coordinator.submit(2))
        job = coordinator.submit(12)
        coordinator.wait_until(lambda: coordinator.num_trained(job) > 0)
        assert "connecting" not in coordinator.log  # nor disconnecting
        assert coordinator.terminate() in (0, 130), coordinator.log
        assert coordinator.state(job) == ("queued", None)
    assert not (tmp_path / "jobs.db-wal").exists()


def test_f23_a_coordinator_goes_on_when_the_head_was_started_again_between_jobs_and_in_one(
    coordinator: Coordinator, head: Machine
) -> None:
    coordinator.complete(coordinator.submit(2))
    head.lose()
    head.start()
    coordinator.complete(coordinator.submit(2))
    job = coordinator.submit(12)
    coordinator.wait_until(lambda: coordinator.num_trained(job) > 0)
    head.lose()
    coordinator.wait_until(lambda: coordinator.state(job) == ("queued", "executor_unavailable"))
    head.start()
    coordinator.complete(job)


@pytest.mark.soak  # a minute, most of it waiting
def test_f23_a_coordinator_without_work_outlives_a_head_that_stays_away(
    coordinator: Coordinator, head: Machine
) -> None:
    """Ray ends a process for that even when it asks for nothing."""
    coordinator.complete(coordinator.submit(2))
    head.lose()
    away_until = time.monotonic() + 1.5 * RAY_WAITS_S
    coordinator.wait_until(lambda: time.monotonic() > away_until)
    job = coordinator.submit(2)
    coordinator.wait_until(lambda: coordinator.state(job) == ("queued", "executor_unavailable"))
    head.start()
    coordinator.complete(job)
