"""Faults of a server among others: killed beside a search, read slowly, left in the middle of a download;
and what G7 asks of a long queue, at a size without clocks."""

import asyncio
import multiprocessing
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.types import Message

from api import stream
from api.app import create_app
from api.client import Event
from api.deps import Services
from api.settings import Settings
from search.export_files import folder_digest
from search.records import JobRecord
from search.running import result
from search.storage import artefacts, events, jobs
from search.storage.check import check
from search.storage.database import Database
from tests.scale import many_jobs

from ..search.conftest import Bench
from ..search.test_gates import visited, whole_run
from .conftest import fill
from .test_client import follow, served

FORK = multiprocessing.get_context("fork")  # from a process that has imported everything

QUICK: dict[str, Any] = {
    "training": {"steps": 8, "rungs": 1}, "screen": {"candidates": 1}, "finalists": {"count": 0},
    "strategy": {"kind": "random"}, "budget": {"trials": 4},
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(port: int, path: str) -> Any:
    """What a server that is starting says, once it says something."""
    end = time.monotonic() + 60
    while True:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}{path}", timeout=30).json()
        except httpx2.HTTPError:
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.mark.slow
def test_g5_f04_a_search_goes_on_while_its_server_is_killed_and_started_again(
    any_bench: Bench, tmp_path: Path, settings: Settings
) -> None:
    """It visits what it would have visited, and who listens hears every event once."""
    bench = any_bench
    plan = bench.plan(**QUICK)
    whole = whole_run(bench, tmp_path, QUICK)
    database = bench.open()
    job_id = bench.create(plan, database)
    port = free_port()

    def serve() -> None:
        uvicorn.run(create_app(settings, bench.open()), port=port, log_config=None)

    def start() -> Any:
        process = FORK.Process(target=serve, daemon=True)
        process.start()
        return process

    server, counts = start(), [answer(port, f"/v1/jobs/{job_id}")["id"]]
    tick, heard = 0, list[Event]()
    listener = threading.Thread(target=follow, args=(port, job_id, heard))
    listener.start()

    def kill(_: Any) -> None:
        nonlocal tick, server
        tick += 1
        if tick == 5:
            os.kill(server.pid, signal.SIGKILL)
            server.join()
            server = start()
            assert answer(port, f"/v1/jobs/{job_id}")["state"] == "running"

    bench.work(job_id, plan, database=database, on_tick=kill)
    assert tick > 5
    found = result(database, job_id)
    assert answer(port, f"/v1/jobs/{job_id}")["state"] == found.job.state == "completed"
    assert [one["id"] for one in answer(port, "/v1/jobs")["items"]] == counts, "nothing was submitted again"
    assert check(database) == []
    assert visited(database, job_id) == whole
    listener.join(timeout=60)
    with database.read() as session:
        assert [event.seq for event in heard] == list(range(1, events.last_seq(session, job_id) + 1))
    server.kill()
    server.join()
    database.close()


@pytest.mark.slow
def test_f18_a_server_that_is_asked_to_end_does_so(tmp_path: Path) -> None:
    """`serve` as it is installed, with its coordinator, exporter and housekeeper."""
    port = free_port()
    program = "from api.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", "--ray", "none", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    server = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert answer(port, "/v1/jobs")["items"] == []
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=60)
    finally:
        server.kill()
    assert "Traceback" not in said
    assert "server ending" in said
    assert server.returncode in (0, 130)
    with sqlite3.connect(tmp_path / "paretoformer.db") as left:
        assert left.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    left.close()


def test_f66_a_reader_that_takes_nothing_is_cut_off_and_leaves_nothing_behind(
    application: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it has not taken is in the database: the server holds one batch for it, then nothing."""
    monkeypatch.setattr(stream, "STALL_S", 0.05)
    job = fill(database, until="running")
    held: Services = application.state.services
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) > 3:
            await asyncio.sleep(3600)

    async def one() -> None:
        with pytest.raises(TimeoutError):
            await stream.stream_answer(held, job.id, 0, "slow").stream_response(send)

    async def many() -> None:
        await asyncio.gather(*(one() for _ in range(20)))

    held.streams._limit = 20
    asyncio.run(many())
    assert held.streams.total == 0
    assert not held.watch._seats


@pytest.mark.slow
def test_f69_a_client_that_leaves_a_download_leaves_no_file_open(
    application: FastAPI, database: Database, job: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(database.data_dir))
    with database.write() as session:
        one = artefacts.create(session, job_id=job.id, trial=0, request={"formats": ["torch"]})
    folder = database.data_dir / "exports" / one.id
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(random.Random(0).randbytes(8 << 20))
    with database.write() as session:
        artefacts.set_state(
            session, one.id, "ready", path=f"exports/{one.id}", size_bytes=8 << 20,
            sha256=folder_digest(folder),
        )  # fmt: skip

    def open_below() -> list[str]:
        found = []
        for link in Path("/proc/self/fd").iterdir():
            try:
                found.append(os.readlink(link))
            except OSError:  # the listing's own
                continue
        return [name for name in found if name.startswith(str(database.data_dir))]

    with served(application) as port:
        for _ in range(30):
            with socket.create_connection(("127.0.0.1", port)) as reader:
                reader.sendall(
                    f"GET /v1/exports/{one.id}/file HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
                )
                assert reader.recv(1000).startswith(b"HTTP/1.1 200")
        end = time.monotonic() + 60
        while left := [*open_below(), *map(str, database.data_dir.glob("*.zip"))]:
            assert time.monotonic() < end, left
            time.sleep(0.02)


def test_g7_a_long_queue_is_listed_claimed_and_added_to(
    any_client: TestClient, any_database: Database
) -> None:
    """The plans that make it fast are tested as F36; `benchmarks.service_load` has the times."""
    ids = many_jobs(any_database, 2000)
    for _ in range(5):
        with any_database.write() as session:
            claimed = jobs.claim(session, "one", 600.0)
        assert claimed is not None
        assert claimed.id == ids.pop(0), "the oldest first"
    made = any_client.post("/v1/jobs", json={"name": "the newest", "budget": {"trials": 2}})
    assert made.status_code == 202
    page = any_client.get("/v1/jobs?limit=100").json()
    assert [one["id"] for one in page["items"][:3]] == [made.json()["id"], ids[-1], ids[-2]]
    assert any_client.get("/").status_code == 200
