"""Workers for real: actors train and measure, are killed, and nothing is lost; stages name their failures."""

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from evaluators.latency import Target
from search.clock import Clock
from search.coordinator import Coordinator
from search.exporting import request_export, run_next_export
from search.job import parse_job
from search.plan import JobPlan, plan_job
from search.records import FINAL_TRIAL_STATES
from search.running import create_job, make_executor, owner_name, result, run
from search.storage import artefacts, jobs, trials
from search.storage.check import check
from search.storage.database import Database
from search.workers.ray import RayExecutor, connect
from search.workers.stages import Bench, outcome_of
from search.workers.work import Outcome, Work
from space.errors import UnavailableError

DIGITS = {
    "task": {"kind": "image", "dataset": "digits"},
    "space": {"set": {"d_model": [16, 24], "num_layers": [1, 2]}},
    "training": {"steps": 12, "rungs": 2},
    "screen": {"candidates": 2},
    "references": {"sizes": 1},
    "finalists": {"count": 1, "seeds": 2, "steps": 12},
    "budget": {"trials": 6},
}


@pytest.fixture(scope="module")
def plan() -> JobPlan:
    return plan_job(parse_job(DIGITS))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(f"sqlite:///{tmp_path / 'jobs.db'}")
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_real_job_runs_in_process_and_its_front_is_exported_and_verified(database: Database) -> None:
    plan = plan_job(parse_job({**DIGITS, "budget": {"trials": 3}}))
    found = run(plan, database=database, ray="none")
    assert found.job.state == "completed"
    assert check(database) == []
    for row in found.front:
        assert row.kinds["latency_s"] == "measured"
        assert row.spread["latency_s"].low < row.values["latency_s"] < row.spread["latency_s"].high
    with database.write() as session:
        artefact = request_export(
            session, found.job, "knee", formats=["torch", "onnx"], quantize="int8", now=Clock().time()
        )
    assert run_next_export(database, Clock())
    with database.read() as session:
        ready = artefacts.get(session, artefact.id)
    assert (ready.state, ready.message) == ("ready", None)
    assert ready.report is not None
    assert ready.report["verification"]["passed"]
    assert {"model.onnx", "model.int8.onnx", "model.safetensors"} <= set(
        ready.report["verification"]["files"]
    )
    assert ready.report["files"]["model.int8.onnx"]["latency"]["value"] > 0
    assert ready.path is not None
    names = {path.name for path in (database.data_dir / ready.path).iterdir()}
    assert {"README.md", "architecture.json", "export_report.json", "preprocessing.json"} <= names


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_g1_a24_killed_ray_workers_lose_and_repeat_nothing(plan: JobPlan, database: Database) -> None:
    """G1 at CI size: ten SIGKILLs of real actors at random moments of a real job. Meanwhile nothing of Ray
    listens to other machines."""
    rng = random.Random(0)
    kills = 0
    stop = threading.Event()
    job = create_job(database, plan, lease=(owner_name(), 15.0))
    with make_executor(plan, database, ray="local", workers=2) as executor:
        assert isinstance(executor, RayExecutor)

        def kill_now_and_then() -> None:
            nonlocal kills
            while kills < 10 and not stop.wait(rng.uniform(0.5, 2.5)):
                for pid in worker_pids()[:1]:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1

        killer = threading.Thread(target=kill_now_and_then)
        killer.start()
        try:
            Coordinator(database, job, plan, executor).run()
        finally:
            stop.set()
            killer.join()
        addresses = listening(descendants(os.getpid()))
        assert addresses, "Ray listens somewhere"
        assert {address for address in addresses if not address.is_loopback} == set()
    found = result(database, job.id)
    assert found.job.state == "completed"
    assert check(database) == []
    with database.read() as session:
        rows = trials.all_trials(session, job.id)
    assert {row.number for row in rows if row.number >= 0} == set(range(6))
    assert all(row.state in FINAL_TRIAL_STATES for row in rows)
    assert kills >= 3


def descendants(pid: int) -> set[int]:
    """Processes that it started, and those that these started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {one for one, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return found


def listening(pids: set[int]) -> list[IPv4Address | IPv6Address]:
    """Addresses on which these processes take TCP connections."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                sockets.add(os.readlink(link))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in sockets:
                words = bytes.fromhex(local.partition(":")[0])  # the kernel writes them low byte first
                address = ip_address(b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4)))
                found.append(getattr(address, "ipv4_mapped", None) or address)
    return found


def worker_pids() -> list[int]:
    """Processes of our actors on this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if name.startswith(b"ray::_Worker"):
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_overdue_work_is_killed_with_its_worker(plan: JobPlan, tmp_path: Path) -> None:
    bench = Bench(plan.data, plan.target, tmp_path / "training", tmp_path / "latency")
    architecture = plan.references[0].architecture.with_number_format("fp32").canonical_json
    payload = {
        "architecture": architecture, "plan": {"steps": 10**6, "batch_size": 64}, "seed": 0, "until": 10**6,
    }  # fmt: skip
    with RayExecutor(bench, num_slots=1) as executor:
        executor.submit(Work("endless", "train", payload, timeout_s=3.0))
        outcomes: list[Outcome] = []
        while not outcomes:
            outcomes = list(executor.poll(1.0))
        assert [(one.key, one.reason) for one in outcomes] == [("endless", "timeout")]
        executor.submit(Work("short", "train", {**payload, "until": 2}, timeout_s=120.0))
        outcomes = []
        while not outcomes:
            outcomes = list(executor.poll(1.0))
        assert outcomes[0].result is not None
        assert outcomes[0].result["step"] == 2


@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "not an address"])
def test_a_cluster_that_does_not_answer_says_how_to_go_on(address: str) -> None:
    with pytest.raises(UnavailableError) as caught:
        connect(address)
    assert "--ray none" in str(caught.value.hint)


def test_failures_of_a_stage_become_reasons_of_the_closed_list(plan: JobPlan, tmp_path: Path) -> None:
    bench = Bench(plan.data, Target(), tmp_path / "training", tmp_path / "latency")
    broken = outcome_of(Work("a", "train", {"architecture": "{}"}, 1.0), bench)
    assert (broken.reason, "model" in broken.message) == ("invalid_architecture", True)
    architecture = plan.references[0].architecture.canonical_json
    gone = {"architecture": architecture, "checkpoint": "nowhere", "parts": ["validation"], "latency": False}
    assert outcome_of(Work("b", "measure", gone, 1.0), bench).reason == "internal"
    wild = {
        "architecture": architecture, "seed": 0, "until": 8,
        "plan": {"steps": 8, "batch_size": 16, "learning_rate": 1e30, "clip": 1e30},
    }  # fmt: skip
    assert outcome_of(Work("c", "train", wild, 1.0), bench).reason == "diverged"


def test_a_job_of_another_tenant_stays_hidden(plan: JobPlan, database: Database) -> None:
    job = create_job(database, plan, tenant="other")
    with database.read() as session:
        assert jobs.list_jobs(session, tenant="local").items == []
        assert jobs.get(session, job.id).state == "queued"
