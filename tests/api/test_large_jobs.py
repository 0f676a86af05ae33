"""Jobs of which a page reads only some trials: what it shows is what a page that reads all would say."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api import gathering
from api.app import create_app
from api.gathering import gather
from api.settings import Settings
from benchmarks.made_up_job import insert_made_up_job
from dashboards import read_selection
from search.records import JobRecord
from search.storage import trials
from search.storage.database import Database
from search.tally import rungs_of, tally_of

from .conftest import ORIGIN

LARGEST = 2_000_000
"""Bytes of any answer but the chart bundle."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, JobRecord]]:
    database = Database.open(f"sqlite:///{tmp_path_factory.mktemp('large')}/p.db")
    yield database, insert_made_up_job(database, 700, variety=200)
    database.close()


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven hundred trials are many."""
    monkeypatch.setattr(gathering, "WHOLE", 100)
    monkeypatch.setattr(gathering, "SAMPLE", 120)


@pytest.fixture
def pages(stored: tuple[Database, JobRecord], large: None) -> Iterator[TestClient]:
    application: FastAPI = create_app(Settings(), stored[0])
    with TestClient(application, base_url=ORIGIN) as client:
        yield client


def test_counts_are_those_of_all_trials(stored: tuple[Database, JobRecord], large: None) -> None:
    database, job = stored
    with database.read() as session:
        every = trials.all_trials(session, job.id)
        found = gather(session, job)
    assert found.many is not None
    assert found.many.tally == tally_of(every, rungs_of(job))
    fronts = {one.number for one in every if one.on_front or one.number < 0}
    assert fronts <= {one.number for one in (*found.trials, *found.references)}
    completed = sum(one.state == "completed" and one.number >= 0 for one in every)
    assert 0 < len(found.many.sample) <= 120 < completed
    drawn = {one.number for one in found.trials}
    assert set(found.many.cloud.numbers) <= drawn


def test_a_small_part_of_the_plane_shows_every_trial_in_it(
    stored: tuple[Database, JobRecord], large: None
) -> None:
    database, job = stored
    chosen = read_selection(job, zoom="0.1,0.5,2.2,2.6")
    with database.read() as session:
        every = trials.all_trials(session, job.id)
        found = gather(session, job, chosen)
    inside = {
        one.number
        for one in every
        if one.number >= 0
        and one.state == "completed"
        and not one.on_front
        and 0.1 <= 1e3 * one.values["latency_s"] <= 0.5
        and 2.2 <= one.values["bits_per_byte"] <= 2.6
    }
    assert found.many is not None
    assert set(found.many.cloud.numbers) == inside
    assert len(inside) > 20


@pytest.mark.parametrize(
    "fields",
    [
        [("max.latency_s", "0.4"), ("min.bits_per_byte", "2.3")],
        [("min.params", "0.1"), ("min.trial", "50"), ("max.trial", "500")],
    ],
)
def test_a_filter_counts_and_draws_what_a_page_that_reads_all_would(
    stored: tuple[Database, JobRecord], large: None, fields: list[tuple[str, str]]
) -> None:
    """By an objective, by a number of the JSON column and by the trial's."""
    database, job = stored
    chosen = read_selection(job, fields=fields)
    with database.read() as session:
        every = trials.all_trials(session, job.id)
        found = gather(session, job, chosen)
    inside = chosen.region.inside(every)
    assert found.many is not None
    assert found.many.inside == tally_of(inside, rungs_of(job))
    assert found.many.tally == tally_of(every, rungs_of(job))
    numbers = {one.number for one in inside}
    assert 20 < len(numbers) < len(every)
    assert set(found.many.cloud.numbers) <= numbers
    assert {one.number for one in found.many.sample} <= numbers
    assert 0 < len(found.many.sample) <= 120


def test_the_page_of_a_large_job_is_small(
    stored: tuple[Database, JobRecord], pages: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, job = stored
    monkeypatch.setattr("dashboards.cloud.MAX_MARKS", 50)
    for path in (
        "",
        "/view.json",
        "/view.json?over=steps",
        "/view.json?max.latency_s=0.4",
        "/explore",
        "/charts/front.json?zoom=0.1,1,2,3",
    ):
        answer = pages.get(f"/jobs/{job.id}{path}")
        assert answer.status_code == 200, path
        assert len(answer.content) < LARGEST, path
    assert "700 of 700 trials" in pages.get(f"/jobs/{job.id}").text
    view = pages.get(f"/jobs/{job.id}/view.json?over=steps").json()
    assert view["is_thinned"]
    assert view["figures"]["progress"]["data"][0]["x"]


def test_a_zoom_is_answered_with_its_part(stored: tuple[Database, JobRecord], pages: TestClient) -> None:
    _, job = stored
    whole = pages.get(f"/jobs/{job.id}/charts/front.json").json()["figure"]
    part = pages.get(f"/jobs/{job.id}/charts/front.json?zoom=0.1,0.5,2.2,2.6").json()
    assert part["figure"]["layout"]["yaxis"]["range"] == [2.2, 2.6]
    assert part["figure"]["layout"]["xaxis"]["range"] == pytest.approx([-1, -0.30103])
    assert "<table>" in part["twin"]
    assert "range" not in whole["layout"]["xaxis"]
    for bad in ("1,2", "1,2,3,x", "2,1,3,4", "1,2,3,inf"):
        assert pages.get(f"/jobs/{job.id}/charts/front.json?zoom={bad}").status_code == 422, bad


def test_the_part_on_view_stands_in_links_and_files(
    stored: tuple[Database, JobRecord], pages: TestClient
) -> None:
    _, job = stored
    zoom = "zoom=0.1,0.5,2.2,2.6"
    assert f"/charts/front.csv?{zoom}" in pages.get(f"/jobs/{job.id}?{zoom}").text
    rows = list(csv.DictReader(io.StringIO(pages.get(f"/jobs/{job.id}/charts/front.csv?{zoom}").text)))
    dominated = [row for row in rows if row["on front"] == "no" and row["group"] == "search"]
    completed = [row for row in dominated if row["state"] == "completed"]
    assert completed
    assert all(0.1 <= float(row["latency (ms)"]) <= 0.5 for row in completed)


def test_a_trial_of_a_large_job_knows_its_kin(stored: tuple[Database, JobRecord], pages: TestClient) -> None:
    _, job = stored
    text = pages.get(f"/jobs/{job.id}/trials/300").text
    assert "Mutated from its parent" in text
    assert "not in this list" not in text


def test_the_devices_page_predicts_a_job(stored: tuple[Database, JobRecord], pages: TestClient) -> None:
    _, job = stored
    page = pages.get("/devices")
    assert page.status_code == 200
    assert job.name in page.text
    assert "analytic, not measured" in page.text
    answer = pages.get(f"/devices/forecast.csv?job={job.id[:8]}&device=rtx-4090")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {"predicted there (ms)", "on the front there"} <= set(rows[0])
    assert any(row["on the front there"] == "yes" for row in rows)
    assert pages.get("/devices?device=toaster").status_code == 404
    assert pages.get("/devices?device=here").status_code == 404
    assert pages.get("/devices?job=nothing").status_code == 404


def test_pictures_need_no_real_job(tmp_path: Path) -> None:
    """The smallest made-up jobs: none and one trial."""
    database = Database.open(f"sqlite:///{tmp_path}/p.db")
    for count in (0, 1):
        job = insert_made_up_job(database, count)
        with TestClient(create_app(Settings(), database), base_url=ORIGIN) as client:
            assert client.get(f"/jobs/{job.id}").status_code == 200
            assert client.get(f"/devices?job={job.id}").status_code == 200
    database.close()
