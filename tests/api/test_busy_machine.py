"""Gate G4 of faults.md in what can be counted: thousands of requests to a server on a machine whose cores are
all at work, and each has the answer that a server at rest gives. `benchmarks.service_load` has the times.
"""

import json
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from api.app import create_app
from api.settings import Settings
from search.records import JobRecord
from search.storage import events
from tests.scale import big_job, many_jobs

from ..search.fault_kit import record
from .test_server_faults import answer, free_port

if TYPE_CHECKING:
    from ..search.conftest import Bench
else:
    Bench = Any

FORK = multiprocessing.get_context("fork")  # from a process that has imported everything
READERS = 4
CORES = 2


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    kind: str = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    kind: str
    body: bytes


def requests_of(job: JobRecord, tag: str, last: int) -> list[Request]:
    """Of every kind one. The job has ended, so that each has one right answer."""
    own = f"/v1/jobs/{job.id}"
    return [
        Request(own),
        Request(f"{own}/front"),
        Request(f"{own}/front", {"If-None-Match": tag}, status=304, kind=""),
        Request(f"{own}/front?layout=columnar"),
        Request("/v1/jobs?limit=50"),
        Request(f"{own}/trials?limit=50"),
        Request(f"{own}/events", {"Last-Event-ID": str(last - 5)}, kind="text/event-stream"),
        Request(f"/jobs/{job.id}/columns/latency_s", kind="application/octet-stream"),
        Request("/", {"Accept": "text/html"}, kind="text/html"),
    ]


def ask(line: HTTPConnection, request: Request) -> Answer:
    line.request("GET", request.path, headers=dict(request.headers))
    found = line.getresponse()
    return Answer(found.status, (found.getheader("content-type") or "").partition(";")[0], found.read())


def well_formed(request: Request, found: Answer) -> None:
    assert (found.status, found.kind) == (request.status, request.kind), request
    if found.kind == "application/json":
        json.loads(found.body)
    elif found.kind == "text/event-stream":
        assert len(re.findall(rb"^id: \d+\nevent: \S+\ndata: \{.+\}\n\n", found.body, re.MULTILINE)) == 5
    elif found.kind == "text/html":
        assert found.body.rstrip().endswith(b"</html>")
    elif found.kind == "application/octet-stream":
        assert len(found.body) > 4 * 500
        assert len(found.body) % 4 == 0
    else:
        assert found.body == b""


def serve(bench: Bench, port: int) -> None:
    uvicorn.run(create_app(Settings(rate_limit=0), bench.open()), port=port, log_config=None)


def burn() -> None:
    os.nice(19)
    while True:
        sum(range(10_000))


@contextmanager
def running(*targets: tuple[object, ...]) -> Iterator[None]:
    """Processes for the time of the block."""
    members = [FORK.Process(target=target, args=given, daemon=True) for target, *given in targets]  # type: ignore[arg-type]
    for member in members:
        member.start()
    try:
        yield
    finally:
        for member in members:
            member.kill()
            member.join()


def read(
    port: int, requests: Sequence[Request], known: Sequence[Answer], turns: Sequence[int]
) -> Counter[str]:
    """Asks over one connection; what is wrong with the answers."""
    line, wrong = HTTPConnection("127.0.0.1", port, timeout=120), Counter[str]()
    for turn in turns:
        index = turn % len(requests)
        found = ask(line, requests[index])
        if found.kind == "text/html":
            well_formed(requests[index], found)  # it has a token of its own
        elif found != known[index]:
            wrong[f"{requests[index].path}: {found.status} {found.body[:200]!r}"] += 1
    line.close()
    return wrong


def wrong_answers(bench: Bench, count: int) -> Counter[str]:
    """Of so many requests, `READERS` at a time."""
    port, database = free_port(), bench.open()
    many_jobs(database, 100)
    job = big_job(database, 1000)
    with database.read() as session:
        last = events.last_seq(session, job.id)
    database.close()
    with running((serve, bench, port)):
        assert answer(port, "/readyz")
        line = HTTPConnection("127.0.0.1", port, timeout=60)
        line.request("GET", f"/v1/jobs/{job.id}/front")
        front = line.getresponse()
        front.read()
        requests = requests_of(job, str(front.getheader("etag")), last)
        known = [ask(line, one) for one in requests]
        line.close()
        for request, found in zip(requests, known, strict=True):
            well_formed(request, found)
        with running(*[(burn,)] * CORES), ThreadPoolExecutor(READERS) as pool:
            shares = [range(first, count, READERS) for first in range(READERS)]
            return sum(pool.map(lambda turns: read(port, requests, known, turns), shares), Counter[str]())


@pytest.mark.slow
def test_g4_every_answer_is_right_while_all_cores_are_busy(any_bench: Bench) -> None:
    """5,000 requests, shared by the engines."""
    assert wrong_answers(any_bench, 2500) == Counter()


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_g4_a_hundred_thousand(any_bench: Bench) -> None:
    """Shared by the engines."""
    assert wrong_answers(any_bench, 50_000) == Counter()
    record("G4", any_bench.engine, requests=50_000, wrong_answers=0)
