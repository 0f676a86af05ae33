import array
import csv
import io

import pytest
from fastapi.testclient import TestClient

from search.records import JobRecord


def floats(client: TestClient, job: JobRecord, key: str) -> list[float]:
    answer = client.get(f"/jobs/{job.id}/columns/{key}")
    assert answer.status_code == 200
    return list(array.array("f", answer.content))


def test_columns_are_every_trial_by_number(client: TestClient, job: JobRecord) -> None:
    numbers = floats(client, job, "number")
    assert numbers == [*range(-4, 0), *range(6)]
    trials = [client.get(f"/v1/jobs/{job.id}/trials/{int(number)}").json() for number in numbers]
    expected = [trial["values"]["latency_s"] for trial in trials]
    assert floats(client, job, "latency_s") == pytest.approx(expected)
    assert floats(client, job, "state") == [float(trial["on_front"]) for trial in trials]
    assert client.get(f"/jobs/{job.id}/columns/speed").status_code == 422


def test_the_page_and_its_file_follow_the_same_filter(client: TestClient, job: JobRecord) -> None:
    query = "max.params=0.2&x=params&y=latency_s"
    page = client.get(f"/jobs/{job.id}/explore?{query}")
    assert page.status_code == 200
    rows = list(csv.DictReader(io.StringIO(client.get(f"/jobs/{job.id}/explore.csv?{query}").text)))
    assert f"{len(rows)} of 10 match" in page.text
    assert all(float(row["parameters (M)"]) <= 0.2 for row in rows)


@pytest.mark.parametrize("query", ["min.speed=1", "max.params=small", "x=speed"])
def test_what_is_no_filter_is_refused(client: TestClient, job: JobRecord, query: str) -> None:
    assert client.get(f"/jobs/{job.id}/explore?{query}").status_code == 422
