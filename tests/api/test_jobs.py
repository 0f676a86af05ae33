"""Jobs over HTTP: submitted whole or not at all, listed, steered, deleted."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from evaluators.training import BUILT_IN
from search.records import JobRecord
from search.storage import jobs, keys
from search.storage.database import Database

SMALL = {
    "name": "small",
    "space": {"set": {"d_model": [32], "num_layers": [1]}},
    "references": {"sizes": 1},
    "budget": {"trials": 2},
}


def test_a_job_is_accepted_with_its_location_and_found_there(client: TestClient) -> None:
    answer = client.post("/v1/jobs", json=SMALL)
    assert answer.status_code == 202, answer.text
    there = client.get(answer.headers["location"])
    assert there.json()["state"] == "queued"
    assert there.json()["objectives"] == ["bits_per_byte", "latency_s"]


def test_a_repeated_idempotency_key_answers_once_and_another_body_is_refused(
    client: TestClient, database: Database
) -> None:
    headers = {"Idempotency-Key": "one"}
    first = client.post("/v1/jobs", json=SMALL, headers=headers)
    again = client.post("/v1/jobs", json=SMALL, headers=headers)
    other = client.post("/v1/jobs", json={**SMALL, "name": "other"}, headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 422)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    with database.read() as session:
        assert len(jobs.list_jobs(session, tenant="local").items) == 1
    path = f"/v1/jobs/{first.json()['id']}"
    assert client.post(f"{path}/cancel").status_code == 200
    assert client.delete(path).status_code == 204
    gone = client.post("/v1/jobs", json=SMALL, headers=headers)
    assert (gone.status_code, gone.json()["hint"]) == (409, "use a new key to make another")
    assert "which was deleted since" in gone.json()["detail"]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"budget": {"trails": 3}}, "did you mean 'trials'"),
        ({"strategy": {"kind": "nsga-2"}}, "did you mean 'nsga2'"),
        ({"space": {"preset": "decoder-smal"}}, "did you mean 'decoder-small'"),
        ({"task": {"dataset": "digit"}}, "did you mean 'digits'"),
        ({"constraints": {"params": 10}}, "below the smallest architecture"),
        ({"name": "two\nlines"}, "printable"),
        ({"task": {"dataset": "/etc/passwd"}}, "no data set of this server"),
        ({"task": {"dataset": "../p.db"}}, "no data set of this server"),
        ({"task": {"dataset": "..%2fp.db"}}, "no data set of this server"),
        ({"task": {"dataset": "prose.txt\x00"}}, "no data set of this server"),
        ({"enqueue": ["/etc/passwd"]}, "cannot be named over HTTP"),
    ],
)
def test_a03_what_cannot_work_is_refused_with_the_way_out_and_nothing_is_stored(
    client: TestClient, database: Database, change: dict[str, object], part: str
) -> None:
    answer = client.post("/v1/jobs", json={**SMALL, **change})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert part in answer.json()["detail"]
    with database.read() as session:
        assert not jobs.list_jobs(session, tenant="local").items


def test_a_data_set_of_the_server_is_named_and_a_link_out_of_its_folder_is_not(
    client: TestClient, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("secret " * 1000)
    (tmp_path / "datasets" / "link.txt").symlink_to(tmp_path / "secret.txt")
    task = {"kind": "language-model", "dataset": "prose.txt"}
    assert client.post("/v1/jobs", json={**SMALL, "task": task}).status_code == 202
    assert client.post("/v1/jobs", json={**SMALL, "task": {**task, "dataset": "link.txt"}}).status_code == 422
    assert set(client.get("/v1/tasks").json()["datasets"]) == {*BUILT_IN, "prose.txt"}


def test_a_preview_says_what_a_job_would_do_and_stores_nothing(
    client: TestClient, database: Database
) -> None:
    answer = client.post("/v1/jobs:preview", json=SMALL).json()
    assert int(answer["space_size"]) > 100
    assert len(answer["examples"]) == 3
    assert answer["estimate"]["kind"] == "predicted"
    with database.read() as session:
        assert not jobs.list_jobs(session, tenant="local").items


def test_jobs_are_steered_and_an_impossible_step_is_a_conflict(client: TestClient) -> None:
    path = client.post("/v1/jobs", json=SMALL).headers["location"]
    assert client.post(f"{path}/pause").status_code == 409  # queued: nothing to pause
    assert client.post(f"{path}/cancel").json()["state"] == "cancelled"
    assert client.post(f"{path}/resume").status_code == 409


def test_an_ended_job_is_deleted_and_a_running_one_is_not(client: TestClient, job: JobRecord) -> None:
    running = client.post("/v1/jobs", json=SMALL).headers["location"]
    assert client.delete(running).status_code == 409
    assert client.delete(f"/v1/jobs/{job.id}").status_code == 204
    assert client.get(f"/v1/jobs/{job.id}").status_code == 404


def test_a27_a_name_changes_only_from_the_version_that_was_read(client: TestClient, job: JobRecord) -> None:
    path = f"/v1/jobs/{job.id}"
    tag = client.get(path).headers["etag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert client.patch(path, json={"name": "new"}, headers={"If-Match": tag}).json()["name"] == "new"
    late = client.patch(path, json={"name": "newer"}, headers={"If-Match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert client.patch(path, json={"state": "running"}).status_code == 422
    assert client.patch(path, json={"name": "any"}, headers={"If-Match": "*"}).status_code == 200


def test_a_job_of_another_tenant_looks_like_none(
    client: TestClient, database: Database, job: JobRecord
) -> None:
    with database.write() as session:
        _, secret = keys.create(session, name="other", tenant="other")
    headers = {"Authorization": f"Bearer {secret}"}
    answer = client.get(f"/v1/jobs/{job.id}", headers=headers)
    unknown = client.get(f"/v1/jobs/{'0' * 32}", headers=headers)
    assert (answer.status_code, unknown.status_code) == (404, 404)
    assert client.get("/v1/jobs", headers=headers).json()["items"] == []


def test_an_architecture_is_read_by_the_tenants_that_tried_it(
    client: TestClient, database: Database, job: JobRecord
) -> None:
    tried = client.get(f"/v1/jobs/{job.id}/trials/0").json()["architecture_id"]
    status = {}
    for tenant in ("local", "other"):
        with database.write() as session:
            _, secret = keys.create(session, name=tenant, tenant=tenant)
        headers = {"Authorization": f"Bearer {secret}"}
        status[tenant] = client.get(f"/v1/architectures/{tried}", headers=headers).status_code
    assert status == {"local": 200, "other": 404}


def test_pages_of_a_listing_join_without_gap(client: TestClient) -> None:
    sent = [client.post("/v1/jobs", json={**SMALL, "name": f"job {i}"}).json()["id"] for i in range(3)]
    first = client.get("/v1/jobs?limit=2").json()
    rest = client.get("/v1/jobs", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [one["id"] for one in first["items"] + rest["items"]] == sent[::-1]
    assert rest["next_cursor"] is None
