"""Trials and fronts over HTTP."""

import csv
import io

import pytest
from fastapi.testclient import TestClient

from search.objectives import minimised
from search.records import JobRecord
from search.storage import logs
from search.storage.database import Database


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def test_no_point_of_a_front_dominates_another_and_all_have_measured_latency(
    client: TestClient, job: JobRecord
) -> None:
    answer = client.get(f"/v1/jobs/{job.id}/front").json()
    vectors = [minimised(point["objectives"], job.objectives) for point in answer["front"]]
    assert vectors
    assert not any(dominates(a, b) for a in vectors for b in vectors)
    assert {point["kinds"]["latency_s"] for point in answer["front"]} == {"measured"}
    latencies = [point["objectives"]["latency_s"] for point in answer["front"]]
    assert latencies == sorted(latencies)
    assert [point["trial"] for point in answer["references"]] == [-1, -2, -3, -4]
    assert answer["indicators"]["hypervolume"] > 0


def test_the_forms_of_a_front_say_the_same(client: TestClient, job: JobRecord) -> None:
    path = f"/v1/jobs/{job.id}/front"
    rows = client.get(path).json()["front"]
    columnar = client.get(path, params={"layout": "columnar"}).json()
    table = list(csv.reader(io.StringIO(client.get(path, headers={"Accept": "text/csv"}).text)))
    assert table[0] == columnar["columns"]
    assert len(rows) == len(columnar["data"]) == len(table) - 1
    at = columnar["columns"].index("latency_s")
    for row, data, line in zip(rows, columnar["data"], table[1:], strict=True):
        assert row["objectives"]["latency_s"] == data[at] == float(line[at])


def test_trials_are_filtered_sorted_and_paged(client: TestClient, job: JobRecord) -> None:
    path = f"/v1/jobs/{job.id}/trials"
    first = client.get(path, params={"sort": "latency_s", "limit": 4}).json()
    rest = client.get(path, params={"sort": "latency_s", "limit": 4, "cursor": first["next_cursor"]}).json()
    latencies = [trial["values"]["latency_s"] for trial in first["items"] + rest["items"]]
    assert len(latencies) == 6
    assert latencies == sorted(latencies)
    assert len(client.get(path, params={"group": "reference"}).json()["items"]) == 4
    members = client.get(path, params={"on_front": True}).json()["items"]
    assert {t["number"] for t in members} == {
        p["trial"] for p in client.get(f"/v1/jobs/{job.id}/front").json()["front"]
    }


@pytest.mark.parametrize(
    "query",
    [
        "sort=values",
        "sort=number;drop table jobs",
        "state=done",
        "group=x",
        "limit=0",
        "limit=1001",
    ],
)
def test_an_impossible_query_is_refused(client: TestClient, job: JobRecord, query: str) -> None:
    assert client.get(f"/v1/jobs/{job.id}/trials?{query}").status_code == 422


def test_a_trial_and_its_architecture_are_found_and_unknown_ones_are_not(
    client: TestClient, job: JobRecord
) -> None:
    trial = client.get(f"/v1/jobs/{job.id}/trials/-1").json()
    assert trial["label"] == "R1"
    assert client.get(f"/v1/architectures/{trial['architecture_id']}").json() == trial["architecture"]
    for path in (f"/v1/jobs/{job.id}/trials/99", f"/v1/architectures/{'0' * 32}", "/v1/exports/x"):
        assert client.get(path).status_code == 404


def test_the_log_of_a_trial_is_text_with_the_last_lines_for_the_tenant_alone(
    client: TestClient, database: Database, job: JobRecord
) -> None:
    lines = [{"at": float(n), "level": "info", "text": f"line {n}"} for n in range(3)]
    with database.write() as session:
        logs.put(session, job.id, 2, "measure/a", 0, lines)
    answer = client.get(f"/v1/jobs/{job.id}/trials/2/log", params={"lines": 2})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == (
        "1970-01-01T00:00:01.000Z info measure/a#1 line 1\n1970-01-01T00:00:02.000Z info measure/a#1 line 2\n"
    )
    assert client.get(f"/jobs/{job.id}/trials/2/log.txt").text.count("\n") == 3
    assert client.get(f"/v1/jobs/{job.id}/trials/3/log").text == ""
    for path in (f"/v1/jobs/{job.id}/trials/99/log", f"/v1/jobs/{'0' * 32}/trials/2/log"):
        assert client.get(path).status_code == 404
    assert client.get(f"/v1/jobs/{job.id}/trials/2/log?lines=2001").status_code == 422
