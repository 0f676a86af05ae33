import csv
import io

import pytest
from fastapi.testclient import TestClient

from search.records import JobRecord


@pytest.mark.parametrize("name", ["front", "progress", "funnel", "latency"])
def test_the_table_of_every_chart_is_a_file(client: TestClient, job: JobRecord, name: str) -> None:
    answer = client.get(f"/jobs/{job.id}/charts/{name}.csv")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert f'filename="{name}-{job.id[:8]}.csv"' in answer.headers["content-disposition"]


def test_the_file_has_the_axes_of_the_page(client: TestClient, job: JobRecord) -> None:
    page = client.get(f"/jobs/{job.id}?x=params&scale=linear")
    assert f"/jobs/{job.id}/charts/front.csv?x=params&amp;scale=linear" in page.text
    rows = list(csv.DictReader(io.StringIO(client.get(f"/jobs/{job.id}/charts/front.csv?x=params").text)))
    trial = client.get(f"/v1/jobs/{job.id}/trials/{rows[0]['trial']}").json()
    assert float(rows[0]["parameters (M)"]) == pytest.approx(1e-6 * trial["values"]["params"])


def test_curves_are_those_of_the_named_trials(client: TestClient, job: JobRecord) -> None:
    assert client.get(f"/jobs/{job.id}/charts/curves.csv?trials=0,1").text.startswith("trial,seed,steps")
    assert client.get(f"/jobs/{job.id}/charts/curves.csv").status_code == 422


def test_what_is_no_view_is_refused(client: TestClient, job: JobRecord) -> None:
    for path in ("charts/volume.csv", "view.json?x=speed", "view.json?over=day"):
        assert client.get(f"/jobs/{job.id}/{path}").status_code == 422, path


def test_the_live_part_follows_the_selection(client: TestClient, job: JobRecord) -> None:
    view = client.get(f"/jobs/{job.id}/view.json?x=params&over=steps").json()
    assert view["query"] == "?x=params&over=steps"
    assert view["figures"]["front"]["layout"]["xaxis"]["title"]["text"].startswith("parameters")


@pytest.mark.parametrize("name", ["curve", "blocks", "memory"])
def test_the_charts_of_a_trial_are_files_too(client: TestClient, job: JobRecord, name: str) -> None:
    answer = client.get(f"/jobs/{job.id}/trials/-1/charts/{name}.csv")
    assert answer.status_code == 200
    assert f'filename="{name}-{job.id[:8]}-R1.csv"' in answer.headers["content-disposition"]
    assert client.get(f"/jobs/{job.id}/trials/-1/charts/volume.csv").status_code == 422
