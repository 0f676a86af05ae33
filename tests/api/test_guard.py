"""What is refused before any route, and what every answer carries."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from api.app import check_binding, create_app
from api.settings import Settings
from search.storage import keys
from search.storage.database import Database
from space.errors import InvalidInputError

UNSAFE = (
    ("POST", "/v1/jobs"),
    ("POST", "/v1/jobs:preview"),
    ("PATCH", "/v1/jobs/0000"),
    ("DELETE", "/v1/jobs/0000"),
    ("POST", "/v1/jobs/0000/cancel"),
    ("POST", "/v1/jobs/0000/exports"),
    ("POST", "/v1/architectures:score"),
    ("POST", "/jobs/new"),
    ("POST", "/jobs/0000/cancel"),
    ("POST", "/jobs/0000/trials/0/exports"),
)


@pytest.mark.parametrize(("method", "path"), UNSAFE)
def test_a22_unsafe_requests_of_another_origin_or_host_are_refused(
    client: TestClient, method: str, path: str
) -> None:
    for headers, status in (
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
    ):
        assert client.request(method, path, headers=headers).status_code == status


def test_a22_a_rebound_name_reads_nothing(client: TestClient) -> None:
    assert client.get("/v1/jobs", headers={"Host": "evil.example:8765"}).status_code == 421
    assert client.get("/v1/jobs", headers={"Host": "localhost:1"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1/jobs", "/v1/nothing", "/static/app.js", "/docs"])
def test_every_answer_carries_policy_and_request_id(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe-eval" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert len(headers["x-request-id"]) == 16


def test_a01_a_body_over_the_limit_is_refused_with_and_without_a_length(client: TestClient) -> None:
    assert client.post("/v1/jobs", content=b" " * 1_000_001).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(2000):
            yield b" " * 1000

    answer = client.post("/v1/jobs", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_a01_a26_compressed_bodies_and_other_content_types_are_refused(client: TestClient) -> None:
    for headers in (
        {"Content-Encoding": "gzip", "Content-Type": "application/json"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ):
        assert client.post("/v1/jobs", content=b"{}", headers=headers).status_code == 415
    assert client.post("/jobs/new", json={}).status_code == 415


def test_the_frameworks_own_refusals_are_problem_documents_too(client: TestClient) -> None:
    for answer, status in (
        (client.get("/v1/nothing"), 404),
        (client.put("/v1/jobs"), 405),
        (client.get("/v1/jobs?limit=x"), 422),
    ):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(answer.json()) == {"type", "title", "status", "detail", "code", "hint", "request_id"}


def test_a_person_gets_a_page_for_an_error(client: TestClient) -> None:
    answer = client.get("/jobs/0000", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")


def test_a31_a_crash_says_nothing_of_the_inside(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the secret is hunter-two in /root/x.py")

    monkeypatch.setattr(database, "read", crash)
    answer = client.get("/v1/jobs")
    assert answer.status_code == 500
    assert "hunter-two" not in answer.text
    assert "x.py" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["request_id"] in {getattr(record, "request_id", "") for record in caplog.records}


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_a23_an_address_others_can_reach_needs_a_key_to_start(database: Database, host: str) -> None:
    settings = Settings(host=host)
    with pytest.raises(InvalidInputError, match="nothing was started"):
        check_binding(settings, database)
    with TestClient(create_app(settings, database)) as open_client:
        assert open_client.get("/v1/jobs").status_code == 401
    with database.write() as session:
        keys.create(session, name="me")
    check_binding(settings, database)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_loopback_starts_without_a_key(database: Database, host: str) -> None:
    check_binding(Settings(host=host), database)


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_a_request_through_a_proxy_needs_a_key_although_the_server_is_on_loopback(
    client: TestClient, header: str
) -> None:
    assert client.get("/v1/jobs").status_code == 200
    assert client.get("/v1/jobs", headers={header: "10.0.0.9"}).status_code == 401
    assert client.get("/livez", headers={header: "10.0.0.9"}).status_code == 200


def test_metrics_count_requests_by_route_pattern(client: TestClient) -> None:
    client.get("/v1/jobs/0000")
    client.get("/v1/some/secret")
    text = client.get("/metrics").text
    assert 'route="/v1/jobs/{job_id}",status="404"' in text
    assert "secret" not in text
    assert 'paretoformer_jobs{state="running"} 0.0' in text
    assert 'paretoformer_jobs_waiting{reason="disk_full"} 0.0' in text
