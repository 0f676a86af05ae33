import pytest
from fastapi.testclient import TestClient

from api.routes.compare import milliseconds, trial_numbers
from search.records import JobRecord
from space.errors import InvalidInputError


def test_ticked_boxes_lead_to_one_permalink(client: TestClient, job: JobRecord) -> None:
    answer = client.get(
        f"/jobs/{job.id}/compare?trials=3&trials=R1&trials=3&fits_ms=5", follow_redirects=False
    )
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/jobs/{job.id}/compare?trials=3,R1&fits_ms=5"
    page = client.get(answer.headers["location"])
    assert page.status_code == 200
    assert "reference R1" in page.text


def test_the_tables_of_a_job_page_have_boxes_that_need_no_script(client: TestClient, job: JobRecord) -> None:
    text = client.get(f"/jobs/{job.id}").text
    assert f'<form id="compare" class="compare-bar" method="get" action="/jobs/{job.id}/compare">' in text
    assert 'name="trials" value="R1" form="compare"' in text


@pytest.mark.parametrize("query", ["", "trials=", "trials=x", "trials=1,2,3,4,5", "trials=1&fits_ms=fast"])
def test_what_names_no_comparison_is_refused(client: TestClient, job: JobRecord, query: str) -> None:
    assert client.get(f"/jobs/{job.id}/compare?{query}").status_code == 422


def test_an_unknown_trial_is_not_there(client: TestClient, job: JobRecord) -> None:
    assert client.get(f"/jobs/{job.id}/compare?trials=0,77").status_code == 404


def test_names_become_numbers() -> None:
    assert trial_numbers(["3", "R1, 7", "-2"]) == [3, -1, 7, -2]
    assert milliseconds(" ") is None
    with pytest.raises(InvalidInputError, match="milliseconds"):
        milliseconds("-1")
