"""Answers of the server while both cores are busy: gates G4 and G7, and the front of a job of 100,000 trials.

    python -m benchmarks.service_load --json benchmarks/results/gates_http.json

A server process over a database made by `tests.scale`, `--burners` processes of matrix products at lower
priority beside it, and an open-loop generator: requests leave at a fixed rate whether or not the last ones
came back, and a time counts from the moment a request should have left, so that stalls are not hidden.
"""

import argparse
import json
import multiprocessing
import os
import platform
import socket
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

NICE = 10
SETTLE_S = 8.0
"""Until the busy workers have started."""
KINDS = ("status", "front", "front columnar", "front unchanged", "list", "list page", "cloud", "submit")
GATE_MS = {"status": 50, "front": 50, "list page": 50, "cloud": 250, "submit": 50, "claim": 20}


def serve(file: str, port: int) -> None:
    """The application without a coordinator: the jobs stay as they are."""
    import uvicorn

    from api.app import create_app
    from api.serving import rest_memory
    from api.settings import Settings
    from search.storage.database import Database

    settings = Settings(rate_limit=0, job_quota=10**9)
    application = create_app(settings, Database.open(file))
    rest_memory()
    uvicorn.run(application, port=port, log_level="warning")


def burn() -> None:
    """A worker that never rests."""
    os.nice(NICE)
    import torch

    torch.set_num_threads(1)
    x = torch.randn(256, 256)
    while True:
        x = torch.tanh(x @ x)


@contextmanager
def running(target: Any, *args: Any) -> Iterator[None]:
    """A process for the time of the block."""
    process = multiprocessing.get_context("spawn").Process(target=target, args=args, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Load:
    """Requests of every kind against one server."""

    def __init__(self, address: str, job_id: str) -> None:
        self._http = httpx2.Client(base_url=address, timeout=60, limits=httpx2.Limits(max_connections=64))
        self._job = f"/v1/jobs/{job_id}"
        self._page = f"/jobs/{job_id}"
        self._tag = self._http.get(f"{self._job}/front").headers["etag"]
        self._lock = threading.Lock()
        self.times: dict[str, list[float]] = defaultdict(list)
        self.statuses: dict[int, int] = defaultdict(int)
        self.slow: list[tuple[float, str, float]] = []
        self.began = 0.0

    def send(self, kind: str, due: float) -> None:
        answer = self._ask(kind)
        took = time.perf_counter() - due
        with self._lock:
            self.times[kind].append(took)
            self.slow += [(round(due - self.began, 2), kind, round(took, 3))] if took > 0.05 else []
            self.statuses[answer.status_code] += 1

    def _ask(self, kind: str) -> httpx2.Response:
        if kind == "status":
            return self._http.get(self._job)
        if kind == "front":
            return self._http.get(f"{self._job}/front")
        if kind == "front columnar":
            return self._http.get(f"{self._job}/front?layout=columnar")
        if kind == "front unchanged":
            return self._http.get(f"{self._job}/front", headers={"If-None-Match": self._tag})
        if kind == "list":
            return self._http.get("/v1/jobs?limit=50")
        if kind == "list page":
            return self._http.get("/", headers={"Accept": "text/html"})
        if kind == "cloud":
            return self._http.get(f"{self._page}/columns/latency_s")
        return self._http.post("/v1/jobs", json={"name": "load", "budget": {"trials": 2}})

    def run(self, kinds: Sequence[str], count: int, rate: float) -> None:
        """`count` requests, kind after kind, one every 1/rate seconds."""
        self.began = begin = time.perf_counter() + 0.2
        with ThreadPoolExecutor(32) as pool:
            for i in range(count):
                due = begin + i / rate
                time.sleep(max(0.0, due - time.perf_counter()))
                pool.submit(self.send, kinds[i % len(kinds)], due)


def summary(times: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    ordered = sorted(times)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {"n": len(ordered)} | {
        name: round(1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
        for name, share in at.items()
    }


def claims(file: str, count: int) -> list[float]:
    """Times to claim a job out of a full queue."""
    from search.storage import jobs
    from search.storage.database import Database

    database = Database.open(file)
    found = []
    for i in range(count):
        begin = time.perf_counter()
        with database.write() as session:
            jobs.claim(session, f"owner {i}", 600.0)
        found.append(time.perf_counter() - begin)
    database.close()
    return found


def measure(arguments: argparse.Namespace, file: str) -> dict[str, Any]:
    from search.storage.database import Database
    from tests.scale import big_job, many_jobs

    began = time.perf_counter()
    database = Database.open(file)
    many_jobs(database, arguments.jobs)
    job = big_job(database, arguments.trials)
    database.close()
    made_s = time.perf_counter() - began
    port, results = free_port(), {}
    with running(serve, file, port):
        began = time.perf_counter()
        _wait(f"http://127.0.0.1:{port}/readyz")
        ready_s = time.perf_counter() - began
        load = Load(f"http://127.0.0.1:{port}", job.id)
        load.run(KINDS, 3 * len(KINDS), 20.0)
        for burners in dict.fromkeys((0, arguments.burners)):
            load.times.clear()
            with _burning(burners):
                time.sleep(SETTLE_S * bool(burners))
                load.run(KINDS, arguments.requests, arguments.rate)
                claimed = claims(file, 100)
            name = f"{burners} busy workers"
            results[name] = {kind: summary(found) for kind, found in load.times.items()}
            results[name]["claim"] = summary(claimed)
            sys.stderr.write(f"{name}: {sorted(load.slow)}\n")
            load.slow.clear()
        statuses = {str(status): count for status, count in sorted(load.statuses.items())}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
        "trials": arguments.trials, "jobs": arguments.jobs, "rate_per_s": arguments.rate,
        "database_made_s": round(made_s, 1), "server_ready_s": round(ready_s, 2),
        "gates_ms_p99": GATE_MS, "latency_ms": results, "statuses": statuses,
        "server_errors": sum(count for status, count in load.statuses.items() if status >= 500),
    }  # fmt: skip


@contextmanager
def _burning(count: int) -> Iterator[None]:
    if not count:
        yield
        return
    with running(burn), _burning(count - 1):
        yield


def _wait(address: str) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            if httpx2.get(address).status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(0.05)
    raise SystemExit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=8_000)
    parser.add_argument("--rate", type=float, default=40.0, help="requests per second")
    parser.add_argument("--burners", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, f"{folder}/load.db")
    text = json.dumps(found, indent=1)
    sys.stdout.write(text + "\n")
    if arguments.json:
        known = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        arguments.json.write_text(json.dumps({**known, "service_load": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
