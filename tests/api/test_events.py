"""The event stream: replays, resumes, ends."""

import json
import threading
import time
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.deps import Services
from search.records import JobRecord
from search.storage import events, jobs
from search.storage.database import Database

from .conftest import fill


def parsed(text: str) -> list[dict[str, Any]]:
    return [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")
    ]


def test_a_finished_job_is_replayed_without_gap_and_the_stream_ends(
    client: TestClient, database: Database, job: JobRecord
) -> None:
    for path in (f"/v1/jobs/{job.id}/events", f"/jobs/{job.id}/events"):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = parsed(answer.text)
        assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
        assert found[-1]["data"]["state"] == "completed"
        with database.read() as session:
            assert len(found) == events.last_seq(session, job.id)


def test_a_stream_goes_on_after_the_last_event_that_was_seen(client: TestClient, job: JobRecord) -> None:
    everything = parsed(client.get(f"/v1/jobs/{job.id}/events").text)
    later = parsed(client.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": "5"}).text)
    assert later == everything[5:]
    assert parsed(client.get(f"/v1/jobs/{job.id}/events?after=5").text) == later


def test_a_number_nobody_could_have_sent_breaks_no_stream(client: TestClient, job: JobRecord) -> None:
    for path in (f"/v1/jobs/{job.id}/events", f"/jobs/{job.id}/events"):
        for text in ("9" * 16, "9" * 5000, "-1", "1e3"):
            assert client.get(path, headers={"Last-Event-ID": text}).status_code == 200
        assert client.get(f"{path}?after={2**63}").status_code == 422


def test_a_stream_follows_a_running_job_to_its_end(
    client: TestClient, application: FastAPI, database: Database
) -> None:
    job = fill(database, until="running")
    held: Services = application.state.services

    def end() -> None:
        while not held.streams.total:
            time.sleep(0.01)
        time.sleep(5 * held.settings.heartbeat_s)
        with database.write() as session:
            jobs.set_state(session, job.id, "completed", fence=job.fence, reason="user")

    ending = threading.Thread(target=end)
    ending.start()
    text = client.get(f"/v1/jobs/{job.id}/events").text
    ending.join()
    assert parsed(text)[-1]["data"]["state"] == "completed"
    assert ": still here" in text


def test_a_stream_ends_with_the_server(application: FastAPI, client: TestClient, database: Database) -> None:
    job = fill(database, until="running")
    held: Services = application.state.services
    timer = threading.Timer(0.4, held.stopping.set)
    timer.start()
    assert client.get(f"/v1/jobs/{job.id}/events").text.startswith("retry:")  # it ends at all
    timer.join()
