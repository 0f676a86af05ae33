"""The Python client against a real server on a socket."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.client import Client, Event, Job, ServerError
from api.settings import Settings
from search.records import JobRecord
from search.storage import artefacts, jobs, keys
from search.storage.database import Database
from space.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError

from .conftest import fill

SMALL = {
    "name": "small",
    "space": {"set": {"d_model": [32], "num_layers": [1]}},
    "references": {"sizes": 1},
    "budget": {"trials": 2},
}


@contextmanager
def served(application: FastAPI, port: int = 0) -> Iterator[int]:
    """The application on a socket of this machine; its port."""
    config = uvicorn.Config(application, port=port, log_config=None, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        application.state.services.stopping.set()
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(application: FastAPI) -> Iterator[Client]:
    with served(application) as port, Client(f"http://127.0.0.1:{port}", patience_s=5) as made:
        yield made


def test_a_job_is_submitted_once_however_often_its_request_is_sent(client: Client) -> None:
    first = client.submit(SMALL, idempotency_key="monday")
    assert client.submit(SMALL, idempotency_key="monday") == first
    assert client.submit(SMALL) != first
    assert [job.id for job in client.jobs(query="small")][-1] == first.id
    assert client.act(first.id, "cancel").is_over
    assert client.act(first.id, "cancel").is_over
    client.delete(first.id)
    with pytest.raises(NotFoundError):
        client.job(first.id)


def test_what_a_job_has_found_comes_as_records(client: Client, job: JobRecord) -> None:
    front = client.front(job.id)
    assert front.job.is_over
    assert front.front
    assert all(point.kinds["latency_s"] == "measured" for point in front.front)
    assert len(front.references) == 4
    assert client.front_csv(job.id).startswith("trial,")
    found = list(client.trials(job.id, sort="-number"))
    assert [trial.number for trial in found] == [5, 4, 3, 2, 1, 0]
    assert client.trial(job.id, -1).label == "R1"
    assert client.trial_log(job.id, -1, lines=5) == ""
    assert {trial.number for trial in client.trials(job.id, on_front=True)} == {p.trial for p in front.front}


def test_a_change_is_refused_when_somebody_else_was_faster(client: Client, job: JobRecord) -> None:
    seen = client.job(job.id)
    changed = client.change(job.id, name="mine", labels=["night"], version=seen.version)
    assert (changed.name, changed.labels) == ("mine", ("night",))
    assert [one.id for one in client.jobs(label="night")] == [job.id]
    assert not list(client.jobs(label="nigh"))
    with pytest.raises(ServerError, match="has changed") as caught:
        client.change(job.id, name="theirs", version=seen.version)
    assert (caught.value.status, caught.value.code) == (412, "precondition_failed")


def test_waiting_tells_the_progress_and_ends_with_the_job(client: Client, database: Database) -> None:
    job = fill(database, until="running")
    heard: list[Job] = []

    def hear(seen: Job) -> None:
        heard.append(seen)
        with database.write() as session:
            if len(heard) == 1:
                jobs.set_state(session, job.id, "completed", fence=job.fence, reason="user")

    assert client.wait(job.id, progress=hear, timeout_s=60).state == "completed"
    assert [seen.state for seen in heard] == ["running", "completed"]
    with pytest.raises(TimeoutError, match="has not ended"):
        client.wait(fill(database, until="running").id, timeout_s=0)


def test_an_export_is_fetched_whole_or_not_at_all(
    client: Client, database: Database, job: JobRecord, tmp_path: Path
) -> None:
    with database.write() as session:
        export = artefacts.create(session, job_id=job.id, trial=0, request={"formats": ["onnx"]})
    with pytest.raises(ConflictError):
        client.download(export.id, tmp_path / "model.zip")
    assert not list(tmp_path.glob("*.zip*"))
    with pytest.raises(TimeoutError):
        client.wait_export(export.id, timeout_s=0)
    with database.write() as session:
        artefacts.set_state(session, export.id, "failed", message="no such block")
    with pytest.raises(ConflictError, match="no such block"):
        client.wait_export(export.id)


def test_picks_of_another_data_set_are_not_retrained(client: Client, job: JobRecord) -> None:
    with pytest.raises(ConflictError, match="has changed"):
        client.retrain(job.id, ["0"], seeds=2)


def test_a_file_is_uploaded_once_and_named_in_a_job(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "prose.txt"
    file.write_text("the quick brown fox jumps over the lazy dog. " * 400)
    data = client.upload(file)
    assert client.upload(file) == data
    job = client.submit({**SMALL, "task": {"kind": "language-model", "dataset": data.dataset}})
    assert job.spec["task"]["dataset"] == data.dataset
    with pytest.raises(ConflictError, match="used by jobs"):
        client.delete_dataset(data.id)
    client.act(job.id, "cancel")
    client.delete(job.id)
    client.delete_dataset(data.id)
    assert not list(client.datasets())


def test_refusals_are_the_projects_own_errors(client: Client, database: Database) -> None:
    with pytest.raises(InvalidInputError, match="did you mean 'nsga2'"):
        client.submit({"strategy": {"kind": "nsga-2"}})
    with pytest.raises(InvalidInputError, match="cannot be read"):
        client.upload(Path("/nowhere/x.csv"))
    with database.write() as session:
        _, secret = keys.create(session, name="me")
    with pytest.raises(ServerError, match="valid key") as caught:
        client.version()
    assert caught.value.status == 401
    with Client(client._transport.server, key=secret) as known:
        assert known.version()["schema"]


def test_a_server_that_is_not_there_is_waited_for_and_then_named() -> None:
    with Client("http://127.0.0.1:9", patience_s=0.3) as nobody, pytest.raises(UnavailableError, match=":9"):
        nobody.version()
    with pytest.raises(InvalidInputError, match="address"):
        Client("nonsense").version()


def test_g5_f67_events_come_once_and_in_order_through_restarts_of_the_server(
    any_database: Database, settings: Settings
) -> None:
    """The same port, three servers one after the other, one client that never asks twice."""
    database = any_database
    job = fill(database, until="running")
    seen: list[Event] = []
    with served(create_app(settings, database)) as port:
        reader = threading.Thread(target=follow, args=(port, job.id, seen))
        reader.start()
        _wait_until(seen, 10)
    for turn in range(2):
        with database.write() as session:
            jobs.set_indicators(session, job.id, job.fence, {"turn": turn})
        begin = len(seen)
        with served(create_app(settings, database), port):
            _wait_until(seen, begin)
            if turn == 1:
                with database.write() as session:
                    jobs.set_state(session, job.id, "completed", fence=job.fence, reason="user")
                reader.join(timeout=30)
    assert not reader.is_alive()
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].data["state"] == "completed"


def follow(port: int, job_id: str, seen: list[Event]) -> None:
    with Client(f"http://127.0.0.1:{port}") as client:
        seen.extend(client.events(job_id))  # grows with every event


def _wait_until(seen: list[Event], more_than: int) -> None:
    end = time.monotonic() + 30
    while len(seen) <= more_than:
        assert time.monotonic() < end
        time.sleep(0.02)
