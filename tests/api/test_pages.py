"""Pages: they are served, forms need their token, hostile names stay text."""

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from search.records import JobRecord
from search.storage import jobs
from search.storage.database import Database

from .conftest import fill

FORM = {
    "written_as": "yaml",
    "yaml": "name: from a page\nspace: {set: {d_model: [32], num_layers: [1]}}\nreferences: {sizes: 1}\n",
}


def token(client: TestClient, path: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', client.get(path).text)
    assert found
    return found[1]


def test_every_page_of_a_job_is_served(client: TestClient, job: JobRecord) -> None:
    trial = client.get(f"/v1/jobs/{job.id}/front").json()["front"][0]["trial"]
    for path in (
        "/", "/?state=completed&query=fin", "/jobs/new", f"/jobs/{job.id}", f"/jobs/{job.id}/view.json",
        f"/jobs/{job.id}/trials/{trial}", f"/jobs/{job.id}/trials/-1", f"/jobs/{job.id}/report.html",
        f"/jobs/{job.id}/front.csv", f"/jobs/{job.id}/front.json", "/docs", "/openapi.json",
        "/static/app.js", "/static/app.css", "/static/plotly.min.js", "/favicon.ico",
    ):  # fmt: skip
        assert client.get(path).status_code == 200, path


def test_pages_run_no_inline_script(client: TestClient, job: JobRecord) -> None:
    for path in ("/", "/jobs/new", f"/jobs/{job.id}", f"/jobs/{job.id}/trials/-1", "/docs"):
        for tag in re.findall(r"<script[^>]*>", client.get(path).text):
            assert "src=" in tag or 'type="application/json"' in tag
        assert not re.search(r"\son\w+=", client.get(path).text)


def test_a_job_is_submitted_from_the_page_and_shown(client: TestClient) -> None:
    form = {**FORM, "csrf": token(client, "/jobs/new")}
    answer = client.post("/jobs/new", data=form, follow_redirects=False)
    assert answer.status_code == 303
    assert "from a page" in client.get(answer.headers["location"]).text


def test_a_form_is_previewed_with_and_without_script(client: TestClient) -> None:
    form = {
        "written_as": "form",
        "name": "p",
        "csrf": token(client, "/jobs/new"),
        "objective.latency_s": "on",
        "space.set": "{d_model: [32], num_layers: [1, 2]}",
        "references.sizes": "1",
        "task.dataset": "prose.txt",
    }
    page = client.post("/jobs/new/preview", data=form)
    assert page.status_code == 200
    assert page.text.count('class="pf-draw"') == 3
    answer = client.post("/jobs/new/preview", data=form, headers={"Accept": "application/json"}).json()
    assert answer["problems"] == []
    assert answer["preview"].count('class="pf-draw"') == 3
    assert "dataset: prose.txt" in answer["written"]
    assert answer["command"].startswith("curl -X POST http://127.0.0.1:8765/v1/jobs")
    assert "/tmp" not in answer["preview"]


def test_a_preview_names_the_field_of_each_problem(client: TestClient) -> None:
    form = {
        "written_as": "form",
        "csrf": token(client, "/jobs/new"),
        "budget.trials": "x",
        "task.dataset": "nowhere",
    }
    answer = client.post("/jobs/new/preview", data=form, headers={"Accept": "application/json"})
    assert answer.status_code == 200
    assert {name for name, _ in answer.json()["problems"]} >= {"budget.trials"}
    fixed = {**form, "budget.trials": "3", "objective.latency_s": "on"}
    page = client.post("/jobs/new/preview", data=fixed)
    assert page.status_code == 422
    assert 'name="task.dataset" aria-invalid="true"' in page.text


def test_one_preview_at_a_time_and_the_next_one_is_told_to_wait(
    client: TestClient, application: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.previewing.PATIENCE_S", 0.01)
    form = {"written_as": "yaml", "yaml": "name: p\n", "csrf": token(client, "/jobs/new")}
    with application.state.services.heavy:
        answer = client.post("/jobs/new/preview", data=form, headers={"Accept": "application/json"}).json()
    assert answer["busy"]
    assert answer["preview"] == ""


def test_a_preview_needs_the_token(client: TestClient) -> None:
    client.get("/jobs/new")
    assert client.post("/jobs/new/preview", data={"written_as": "form", "csrf": "0" * 64}).status_code == 403


def test_a_job_that_cannot_run_comes_back_with_its_text(client: TestClient) -> None:
    form = {"written_as": "yaml", "yaml": "budget: {trails: 3}", "csrf": token(client, "/jobs/new")}
    answer = client.post("/jobs/new", data=form)
    assert answer.status_code == 422
    assert "did you mean" in answer.text
    assert "budget: {trails: 3}" in answer.text


@pytest.mark.parametrize("given", ["", "0" * 64, "é"])
def test_a_form_without_its_token_does_nothing(client: TestClient, database: Database, given: str) -> None:
    client.get("/jobs/new")
    assert client.post("/jobs/new", data={**FORM, "csrf": given}).status_code == 403
    with database.read() as session:
        assert not jobs.list_jobs(session, tenant="local").items


def test_a_token_is_worth_nothing_with_another_cookie(client: TestClient) -> None:
    own = token(client, "/jobs/new")
    client.cookies.clear()
    client.get("/jobs/new")
    assert client.post("/jobs/new", data={**FORM, "csrf": own}).status_code == 403


def test_the_cookie_is_strict_and_out_of_reach_of_scripts(client: TestClient) -> None:
    cookie = client.get("/").headers["set-cookie"].lower()
    assert "samesite=strict" in cookie
    assert "httponly" in cookie


def test_a_job_is_stopped_and_a_trial_exported_from_their_pages(
    client: TestClient, database: Database
) -> None:
    job = fill(database, until="running")
    csrf = {"csrf": token(client, f"/jobs/{job.id}")}
    answer = client.post(f"/jobs/{job.id}/stop", data=csrf, follow_redirects=False)
    assert answer.status_code == 303
    assert client.get(f"/v1/jobs/{job.id}").json()["state"] == "stopping"
    assert client.post(f"/jobs/{job.id}/explode", data=csrf).status_code == 422
    form = {**csrf, "format_onnx": "on", "quantize": "int8"}
    answer = client.post(f"/jobs/{job.id}/trials/0/exports", data=form, follow_redirects=False)
    assert answer.status_code == 303
    (asked,) = client.get(f"/v1/jobs/{job.id}/exports").json()
    assert (asked["formats"], asked["quantize"]) == (["onnx"], "int8")


def test_a_hostile_name_stays_text(client: TestClient, database: Database) -> None:
    name = "<img src=x onerror=alert(1)></script><script>alert(2)</script>{{7*7}}"
    job = fill(database, name=name)
    for path in ("/", f"/jobs/{job.id}", f"/jobs/{job.id}/trials/0", f"/jobs/{job.id}/report.html"):
        text = client.get(path).text
        assert "<img src=x" not in text
        assert "<script>alert" not in text


def test_a_file_from_the_form_becomes_a_data_set(client: TestClient) -> None:
    headers = {"X-Form-Token": token(client, "/jobs/new")}
    text = b"the quick brown fox jumps over the lazy dog. " * 400
    answer = client.post("/jobs/new/data?name=prose.txt", content=text, headers=headers)
    assert answer.status_code == 200
    name = answer.json()["dataset"]
    assert client.get(f"/v1/datasets/{name}").json()["name"] == "prose.txt"
    assert f'<option value="{name}">prose.txt</option>' in client.get("/jobs/new").text
    for bad, headers_of, status in (
        ("prose.exe", headers, 422),
        ("prose.txt", {"X-Form-Token": "0" * 64}, 403),
        ("prose.npz", headers, 422),
    ):
        sent = client.post(f"/jobs/new/data?name={bad}", content=text, headers=headers_of)
        assert sent.status_code == status, bad


def test_a_waiting_export_is_cancelled_from_the_page(client: TestClient, job: JobRecord) -> None:
    csrf = {"csrf": token(client, f"/jobs/{job.id}/trials/0")}
    client.post(f"/jobs/{job.id}/trials/0/exports", data={**csrf, "format_torch": "on"})
    (asked,) = client.get(f"/v1/jobs/{job.id}/exports").json()
    assert f"/exports/{asked['id']}/cancel" in client.get(f"/jobs/{job.id}/trials/0").text
    answer = client.post(f"/exports/{asked['id']}/cancel", data=csrf, follow_redirects=False)
    assert answer.status_code == 303
    assert client.get(f"/v1/exports/{asked['id']}").json()["state"] == "cancelled"
    assert client.post(f"/exports/{asked['id']}/cancel", data={"csrf": "0" * 64}).status_code == 403
