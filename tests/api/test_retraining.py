"""Finalists of one's own choice over HTTP and from the page that compares trials."""

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from search.records import JobRecord
from search.running import stored_plan
from search.storage import jobs, trials
from search.storage.database import Database
from search.workers.store import store_of
from space import search_space
from space.space_size import count

from .conftest import fill


@pytest.fixture
def ended(database: Database, client: TestClient) -> JobRecord:
    """An ended job on an uploaded text, with one completed trial."""
    text = b"def main():\n    return sum(range(100))\n" * 400
    made = client.post("/v1/datasets", content=text, headers={"Content-Type": "text/plain"})
    assert made.status_code == 201, made.text
    task = {"kind": "language-model", "dataset": f"data_{made.json()['id']}"}
    spec = {"name": "own text", "task": task, "budget": {"trials": 2}, "warm_start": None}
    job_id = client.post("/v1/jobs", json=spec).json()["id"]
    with database.read() as session:
        plan = stored_plan(jobs.get(session, job_id), store_of(database))
    with database.write() as session:
        job = jobs.take(session, job_id, "test", 600, database.now())
        trials.create(
            session, job.id, job.fence, number=0, origin="random", parents=(), note="", asked_after=1,
            architecture=plan.references[0].architecture,
        )  # fmt: skip
        trials.set_state(session, job.id, 0, job.fence, "running")
        values = {"bits_per_byte": 2.0, "latency_s": 1e-3, "params": 100.0}
        kinds = dict.fromkeys(values, "measured")
        trials.record(session, job.id, 0, job.fence, values=values, spread={}, kinds=kinds, steps=300)
        trials.complete(session, job.id, 0, job.fence)
        return jobs.set_state(session, job.id, "completed", fence=job.fence, reason="budget_reached")


def test_the_space_is_counted_before_the_job_is_stored(
    client: TestClient, database: Database, ended: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[str] = []
    write = database.write

    def counted(space: search_space.SearchSpace) -> int:
        began.append("count")
        return count(space)

    def transaction() -> Any:
        began.append("write")
        return write()

    search_space._SIZES.clear()
    monkeypatch.setattr(search_space, "count", counted)
    monkeypatch.setattr(database, "write", transaction)
    assert client.post(f"/v1/jobs/{ended.id}/retrain", json={"picks": ["0"]}).status_code == 202
    assert began[0] == "count"


def test_a_data_set_that_is_gone_is_told_by_its_name_not_its_place(
    client: TestClient, database: Database, ended: JobRecord
) -> None:
    (database.data_dir / ended.context["dataset_path"]).unlink()
    answer = client.post(f"/v1/jobs/{ended.id}/retrain", json={"picks": ["0"]})
    assert answer.status_code == 409, answer.text
    assert ended.spec["task"]["dataset"] in answer.text
    assert str(database.data_dir) not in answer.text


def test_picks_become_a_job_that_keeps_its_data(
    client: TestClient, database: Database, ended: JobRecord
) -> None:
    path, body = f"/v1/jobs/{ended.id}/retrain", {"picks": ["0", "knee"], "seeds": 2, "steps": 50}
    headers = {"Idempotency-Key": "once"}
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    new = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{new['id']}"
    assert client.post(path, json=body, headers=headers).json()["id"] == new["id"]
    assert new["name"] == "own text: retrained"
    finalists = new["spec"]["finalists"]
    assert [finalists[name] for name in ("count", "of", "seeds", "steps")] == [1, "enqueued", 2, 50]
    with database.read() as session:
        job = jobs.get(session, new["id"])
        (architecture,) = stored_plan(job, store_of(database)).enqueued
        assert architecture.id == trials.get(session, ended.id, 0).architecture_id
    handle = ended.spec["task"]["dataset"]
    client.delete(f"/v1/jobs/{ended.id}")
    assert client.delete(f"/v1/datasets/{handle.removeprefix('data_')}").status_code == 409  # still in use


def test_the_page_of_a_comparison_retrains_what_it_shows(client: TestClient, ended: JobRecord) -> None:
    assert f"/jobs/{ended.id}/compare?trials=0#retrain" in client.get(f"/jobs/{ended.id}/trials/0").text
    page = client.get(f"/jobs/{ended.id}/compare?trials=0").text
    found = re.search(r'id="retrain".*?name="csrf" value="([^"]+)"', page, re.DOTALL)
    assert found is not None
    form = {"csrf": found[1], "trials": "0", "seeds": "2", "steps": ""}
    answer = client.post(f"/jobs/{ended.id}/retrain", data=form, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    new = client.get(f"/v1{answer.headers['location']}").json()
    assert new["spec"]["finalists"]["steps"] == ended.spec["finalists"]["steps"]
    assert client.post(f"/jobs/{ended.id}/retrain", data={**form, "csrf": "no"}).status_code == 403


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        ({"picks": []}, 422, "picks"),
        ({"pick": ["0"]}, 422, "did you mean 'picks'"),
        ({"picks": ["R1"]}, 422, "is a reference"),
        ({"picks": ["99"]}, 404, "99"),
        ({"picks": ["0"], "steps": 1}, 422, "steps"),
        ({"picks": ["0"]}, 409, "has changed"),
    ],
)
def test_what_cannot_be_retrained_is_refused(
    client: TestClient, job: JobRecord, body: dict[str, object], status: int, part: str
) -> None:
    answer = client.post(f"/v1/jobs/{job.id}/retrain", json=body)
    assert (answer.status_code, part in answer.text) == (status, True), answer.text


def test_a_job_that_goes_on_has_no_picks_yet(client: TestClient, database: Database) -> None:
    going = fill(database, name="going", until="running")
    answer = client.post(f"/v1/jobs/{going.id}/retrain", json={"picks": ["0"]})
    assert answer.status_code == 409
    assert 'id="retrain"' not in client.get(f"/jobs/{going.id}/compare?trials=0").text
