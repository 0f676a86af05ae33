"""A cluster of three machines: separate raylets without a common folder, whose workers and nodes die."""

import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluators.latency import device_key
from evaluators.training.out_of_memory import give_back
from search.coordinator import Coordinator
from search.crew import make_bench
from search.job import parse_job
from search.plan import JobPlan, plan_job
from search.records import FINAL_TRIAL_STATES
from search.running import create_job, owner_name, result
from search.storage import trials
from search.storage.check import check
from search.storage.database import Database
from search.workers import stages
from search.workers.ray import RayExecutor
from search.workers.ray_connection import is_reachable
from search.workers.stages import outcome_of
from search.workers.work import Outcome, Work
from space.errors import UnavailableError

from .test_real_searches import untimed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

DIGITS = {
    "task": {"kind": "image", "dataset": "digits"},
    "space": {"set": {"d_model": [16, 24], "num_layers": [1, 2]}},
    "training": {"steps": 8, "rungs": 2},
    "screen": {"candidates": 1},
    "references": {"sizes": 1},
    "finalists": {"count": 0},
    "budget": {"trials": 8},
}


@pytest.fixture(scope="module")
def plan() -> JobPlan:
    return plan_job(parse_job(DIGITS))


class Cluster:
    """A head without cores and nodes with one core each, every node with a working directory of its own."""

    def __init__(self, folder: Path, nodes: int) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        self._ray = RayCluster()
        self._ray.add_node(num_cpus=0, include_dashboard=False)
        self.nodes = []
        here = Path.cwd()
        try:
            for number in range(nodes):
                own = folder / f"node-{number}"
                own.mkdir()
                os.chdir(own)
                self.nodes.append(self._ray.add_node(num_cpus=1))
        finally:
            os.chdir(here)
        self.address: str = self._ray.address

    def lose(self, number: int) -> None:
        """The machine is gone, without a word."""
        self._ray.remove_node(self.nodes[number], allow_graceful=False)

    def lose_head(self) -> None:
        head = self._ray.head_node
        assert head is not None
        head.kill_gcs_server(check_alive=False)

    def end(self) -> None:
        import ray

        ray.shutdown()
        self._ray.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path, 3)
    yield started
    started.end()


def test_f23_a_job_survives_the_loss_of_workers_and_of_a_machine(
    cluster: Cluster, plan: JobPlan, tmp_path: Path
) -> None:
    """Checkpoints travel through an fsspec URL; every node keeps its own copies. Latencies are a formula."""
    store = tmp_path / "store"
    database = Database.open(tmp_path / "jobs.db", data_dir=tmp_path / "mine", data_url=f"file://{store}")
    job = create_job(database, plan, lease=(owner_name(), 15.0))
    bench = make_bench(plan, database)
    with RayExecutor(bench, address=cluster.address, num_slots=3, run=untimed()) as executor:
        hosts = executor.hosts()
        assert len({host.node for host in hosts}) == 3
        lost: list[str] = []

        def disturb(coordinator: Coordinator) -> None:
            trained = sum(trial.state == "completed" for trial in coordinator.ledger.search_trials)
            if trained >= 1 and not lost:
                os.kill(hosts[0].pid, signal.SIGKILL)
                lost.append("worker")
            if trained >= 3 and lost == ["worker"]:
                cluster.lose(1)
                lost.append("machine")

        Coordinator(database, job, plan, executor, on_tick=disturb).run()
    assert lost == ["worker", "machine"]
    found = result(database, job.id)
    assert (found.job.state, found.job.reason) == ("completed", "budget_reached")
    assert check(database) == []
    with database.read() as session:
        rows = trials.all_trials(session, job.id)
    assert all(row.state in FINAL_TRIAL_STATES and row.state != "failed" for row in rows)
    assert list(store.glob("training/*/*/*/*/state.json"))
    assert not (tmp_path / "mine" / "training").exists() or not list((tmp_path / "mine/training").glob("*/*"))
    database.close()


def test_f23_without_its_head_a_cluster_is_unavailable_and_this_process_lives(
    cluster: Cluster, tmp_path: Path
) -> None:
    def run(work: Work, bench: Any) -> Outcome:
        return Outcome(work.key)

    executor = RayExecutor(None, address=cluster.address, num_slots=1, run=run)
    try:
        cluster.lose_head()
        with pytest.raises(UnavailableError, match="is gone"):
            poll_for(executor, 60.0)
    finally:
        executor.close()
    assert not is_reachable(cluster.address)


def poll_for(executor: RayExecutor, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        executor.poll(0.1)


def outcomes(executor: RayExecutor, count: int) -> list[Outcome]:
    found: list[Outcome] = []
    end = time.monotonic() + 60
    while len(found) < count and time.monotonic() < end:
        found += executor.poll(0.1)
    return found


def test_f12_f13_f16_f17_workers_die_hang_and_run_out_of_memory_alone(plan: JobPlan) -> None:
    """What a worker does to itself is no harm to the next piece of work: it is another process."""

    def run(work: Work, bench: Any) -> Outcome:
        import os as system
        import signal as signals
        import subprocess as processes
        import time as clock

        if work.key == "die":
            system.kill(system.getpid(), signals.SIGKILL)
        if work.key == "hang":
            signals.signal(signals.SIGTERM, signals.SIG_IGN)
            processes.Popen(["sleep", "4242"])
            while True:
                clock.sleep(1)
        calls = {"memory": hoard, "device": lose_device, "smaller": try_less, "limit": own_limit}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stages, "train_to", calls.get(work.key, lambda *_: {"pid": system.getpid()}))
            return outcome_of(work, bench)

    keys = ("plain", "die", "smaller", "limit", "memory", "plain", "device", "plain", "hang", "plain")
    with RayExecutor(None, num_slots=1, memory=10**9, run=run) as executor:
        found = []
        for key in keys:
            while executor.num_slots == executor.num_busy:
                executor.poll(0.05)
            executor.submit(Work(key, "train", {}, 1.5 if key == "hang" else 60.0))
            found += outcomes(executor, 1)
        reasons = [one.reason for one in found]
        assert reasons == [
            None, "worker_lost", None, None, "out_of_memory", None, "worker_lost", None, "timeout", None
        ]  # fmt: skip
        tried, limited = found[2].result, found[3].result
        assert tried is not None
        assert tried["after"] > tried["before"] == limited
        assert "its worker may have 1.0 GB (PARETOFORMER_WORKER_MEMORY)" in found[4].message
        assert "device lost: CUDA error: an illegal memory access" in found[6].message
        pids = [one.result["pid"] for one in (found[index] for index in (0, 5, 7, 9)) if one.result]
        assert len(set(pids)) == 4
        end = time.monotonic() + 10
        while (left := processes_of("4242")) and time.monotonic() < end:
            time.sleep(0.1)
        assert left == []


def hoard(*_: object) -> None:
    """Takes more than a gigabyte, a little at a time."""
    [torch.zeros(2**20) for _ in range(400)]


def own_limit(*_: object) -> int:
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


def try_less(*_: object) -> dict[str, int]:
    """Free memory between what is in use is handed back, and may be asked for again elsewhere."""
    before = own_limit()
    kept, freed = list[torch.Tensor](), list[torch.Tensor]()
    with suppress(MemoryError, RuntimeError):  # whoever asks for the last of it: torch, or a list
        for number in itertools.count():
            (kept if number % 2 else freed).append(torch.zeros(2**14))
    freed.clear()
    give_back()
    return {"before": before, "after": own_limit()}


def lose_device(*_: object) -> None:
    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nand more")


def processes_of(argument: str) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.endswith(f"sleep {argument}")]


def test_latencies_wait_for_a_machine_like_the_jobs(plan: JobPlan) -> None:
    def run(work: Work, bench: Any) -> Outcome:
        return Outcome(work.key, result={})

    with RayExecutor(
        None, num_slots=1, run=run, target=plan.target, device="cpu/another machine"
    ) as executor:
        executor.submit(Work("train", "train", {}, 60.0))
        assert [one.key for one in outcomes(executor, 1)] == ["train"]
        executor.submit(Work("measure", "measure", {}, 60.0))
        assert list(executor.poll(0.3)) == []
        executor._device = device_key(plan.target)
        assert [one.key for one in outcomes(executor, 1)] == ["measure"]


def test_f18_sigterm_is_ours_again_as_soon_as_ray_has_started() -> None:
    program = (
        "import os, signal, sys\n"
        "from api.interruption import stop_on_terminate\n"
        "from search.workers.ray_connection import connect\n"
        "stop_on_terminate()\n"
        "connect('local', 1)\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    signal.pause()\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 7
