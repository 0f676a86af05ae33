"""Who may do what: every route of the running application against every kind of key."""

import re
import threading
import time
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.app import create_app
from api.deps import SESSION_COOKIE
from api.limits import FREE, Attempts, Rate
from api.problems import RequestError
from api.routes.access import local_path
from api.settings import Settings
from search.records import JobRecord
from search.storage import artefacts, jobs, keys, sessions
from search.storage.database import Database

from .conftest import ORIGIN, fill
from .surface import PUBLIC, address, routes

PAGE = {"Accept": "text/html"}


def made(database: Database, *, tenant: str = "local", scopes: tuple[str, ...] = keys.SCOPES) -> str:
    with database.write() as session:
        return keys.create(session, name="test", tenant=tenant, scopes=scopes)[1]


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def token(text: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', text)
    assert found
    return found[1]


def signed_in(client: TestClient, secret: str) -> None:
    form = {"csrf": token(client.get("/login").text), "key": secret, "next": "/"}
    assert client.post("/login", data=form, follow_redirects=False).status_code == 303


def test_g11_a17_every_route_but_the_public_ones_wants_a_key_that_opens(
    any_client: TestClient, any_database: Database
) -> None:
    """None, wrong, revoked, expired, in the query string, or in another scheme: the same answer."""
    client, database = any_client, any_database
    application = client.app
    assert isinstance(application, FastAPI)
    with database.write() as session:
        record, right = keys.create(session, name="right")
        gone, revoked = keys.create(session, name="gone")
        keys.revoke(session, gone.id)
        _, expired = keys.create(session, name="old", lifetime_s=-1.0)
    wrong: list[dict[str, str]] = [{}, bearer(f"pf_{record.id}_{'x' * 43}"), bearer(revoked), bearer(expired)]
    surface = list(routes(application))
    assert len(surface) > 60
    application.state.services.attempts.failed = lambda *names: None
    for method, path in surface:
        answers = [client.request(method, address(path), headers=headers) for headers in wrong]
        statuses = {answer.status_code for answer in answers}
        assert (statuses == {401}) == (path not in PUBLIC), f"{method} {path}: {statuses}"
    for headers in ({"Authorization": right}, {"Authorization": "Bearer"}, {"Cookie": f"pf_session={right}"}):
        assert client.get("/v1/jobs", headers=headers).status_code == 401
    assert client.get(f"/v1/jobs?key={right}&access_token={right}").status_code == 401
    assert client.get("/v1/jobs", auth=("anyone", right)).status_code == 401
    assert client.get("/v1/jobs", headers=bearer(right)).status_code == 200
    details = {
        (answer.json()["detail"], answer.headers["www-authenticate"])
        for headers in wrong
        if (answer := client.get("/v1/jobs", headers=headers))
    }
    assert len(details) == 1


def test_g11_a18_another_tenants_ids_look_like_none_on_every_route(
    any_client: TestClient, any_database: Database
) -> None:
    client, database = any_client, any_database
    application = client.app
    assert isinstance(application, FastAPI)
    job = fill(database)
    mine, theirs = made(database), made(database, tenant="other")
    with database.write() as session:
        export = artefacts.create(session, job_id=job.id, trial=0, request={})
    data = client.post(
        "/v1/datasets", content=b"text,label\na,b\n", headers={**bearer(mine), "Content-Type": "text/csv"}
    ).json()
    shown = client.get(f"/v1/jobs/{job.id}/trials/0", headers=bearer(mine)).json()["architecture_id"]
    ids = {
        "job_id": job.id, "export_id": export.id, "dataset_id": data["id"], "architecture_id": shown,
    }  # fmt: skip
    checked = 0
    for method, path in routes(application):
        if not path.startswith("/v1") or not any(f"{{{name}}}" in path for name in ids):
            continue
        body: dict[str, str] | None = {} if method in ("POST", "PATCH") else None
        foreign = client.request(method, address(path, **ids), headers=bearer(theirs), json=body)
        unknown = client.request(method, address(path), headers=bearer(theirs), json=body)
        assert (foreign.status_code, unknown.status_code) == (404, 404), f"{method} {path}"
        assert foreign.json()["code"] == unknown.json()["code"] == "not_found"
        checked += 1
    assert checked > 15
    for path in ("/v1/jobs", "/v1/datasets", "/v1/audit"):
        assert client.get(path, headers=bearer(theirs)).json()["items"] == []
    assert client.get(f"/v1/jobs/{job.id}", headers=bearer(mine)).status_code == 200


@pytest.mark.parametrize(
    ("scopes", "reads", "writes", "administers"),
    [
        (("read",), 200, 403, 403),
        (("read", "write"), 200, 200, 403),
        (("admin",), 403, 403, 403),
        (keys.SCOPES, 200, 200, 200),
    ],
)
def test_a19_a_key_does_what_its_scopes_say(
    client: TestClient,
    database: Database,
    job: JobRecord,
    scopes: tuple[str, ...],
    reads: int,
    writes: int,
    administers: int,
) -> None:
    headers = bearer(made(database, scopes=scopes))
    assert client.get("/v1/jobs", headers=headers).status_code == reads
    assert client.patch(f"/v1/jobs/{job.id}", json={"name": "x"}, headers=headers).status_code == writes
    for path in ("/v1/audit", "/metrics"):
        assert client.get(path, headers=headers).status_code == administers
    if writes == 403:
        assert client.post("/v1/jobs", json={}, headers=headers).json()["code"] == "missing_scope"


def test_a_page_asks_for_a_key_and_a_session_opens_it(client: TestClient, database: Database) -> None:
    secret = made(database)
    first = client.get("/jobs/new?x=1", headers=PAGE, follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, "/login?next=%2Fjobs%2Fnew%3Fx%3D1")
    form = client.get(first.headers["location"])
    assert "password" in form.text
    wrong = client.post("/login", data={"csrf": token(form.text), "key": "pf_0_0"}, headers=PAGE)
    assert wrong.status_code == 401
    assert "does not open" in wrong.text
    data = {"csrf": token(form.text), "key": secret, "next": "/jobs/new"}
    answer = client.post("/login", data=data, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs/new")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert secret not in cookie
    assert client.get("/", headers=PAGE).status_code == 200
    assert client.get("/v1/jobs").status_code == 401  # /v1 takes keys only
    client.post("/logout", data={"csrf": token(client.get("/logout").text)})
    assert client.get("/", headers=PAGE, follow_redirects=False).status_code == 303


def test_a_session_ends_with_its_key_and_with_its_time(client: TestClient, database: Database) -> None:
    with database.write() as session:
        record, secret = keys.create(session, name="me")
        keys.create(session, name="another, so that a key is needed")
    signed_in(client, secret)
    assert client.get("/").status_code == 200
    with database.write() as session:
        text = sessions.begin(session, record.id, now=database.now() - sessions.LIFETIME_S - 1)
        assert sessions.find(session, text) is None
        keys.revoke(session, record.id)
    assert client.get("/").status_code == 401


def test_a22_forms_need_the_token_of_their_cookie(client: TestClient, database: Database) -> None:
    secret = made(database)
    assert client.post("/login", data={"key": secret}).status_code == 403
    assert client.post("/logout", data={"csrf": "0" * 64}).status_code == 403
    signed_in(client, secret)
    other = TestClient(client.app, base_url=ORIGIN)
    stolen = token(other.get("/login").text)
    assert client.post("/jobs/0000/cancel", data={"csrf": stolen}).status_code == 403
    assert client.cookies[SESSION_COOKIE]


def test_forms_and_cursors_outlive_a_restart(
    client: TestClient, database: Database, settings: Settings
) -> None:
    for name in "ab":
        fill(database, name=name)
    page = client.get("/v1/jobs?limit=1").json()
    text = token(client.get("/logout").text)
    with TestClient(create_app(settings, database), base_url=ORIGIN, cookies=client.cookies) as again:
        rest = again.get("/v1/jobs", params={"limit": 1, "cursor": page["next_cursor"]})
        assert rest.status_code == 200
        assert again.post("/logout", data={"csrf": text}, follow_redirects=False).status_code == 303


@pytest.mark.parametrize("there", ["//evil.example", "https://evil.example", "/\\evil", "x", "/a\nb", "/é"])
def test_a_sign_in_leads_nowhere_else(there: str) -> None:
    assert local_path(there) == "/"


def test_a20_wrong_keys_wait_longer_and_longer_and_a_right_one_from_elsewhere_does_not(
    client: TestClient, database: Database
) -> None:
    secret = made(database)
    wrong = [client.get("/v1/jobs", headers=bearer(f"{secret[:12]}{'x' * 43}")) for _ in range(FREE + 2)]
    assert [answer.status_code for answer in wrong] == [401] * (FREE + 1) + [429]
    assert int(wrong[-1].headers["retry-after"]) >= 1
    assert client.get("/v1/jobs", headers=bearer(secret)).status_code == 429  # this source waits
    elsewhere = TestClient(client.app, base_url=ORIGIN, client=("10.0.0.9", 1))
    assert elsewhere.get("/v1/jobs", headers=bearer(secret)).status_code == 200


def test_a20_the_wait_doubles_and_ends() -> None:
    now = [0.0]
    attempts = Attempts(lambda: now[0])
    for _ in range(FREE):
        attempts.failed("source")
        attempts.check("source")
    for wait in (1.0, 2.0, 4.0):
        attempts.failed("source")
        with pytest.raises(RequestError, match="wrong keys"):
            attempts.check("source")
        now[0] += wait
        attempts.check("source")
    attempts.succeeded("source")
    attempts.failed("source")
    attempts.check("source")


def test_f68_a_key_that_asks_too_fast_is_told_when_to_come_back(database: Database) -> None:
    secret = made(database)
    settings = Settings(rate_limit=0.5)  # two at once, then one in two seconds
    with TestClient(create_app(settings, database), base_url=ORIGIN) as client:
        answers = [client.get("/v1/version", headers=bearer(secret)) for _ in range(4)]
        assert answers[0].status_code == answers[1].status_code == 200
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert client.get("/livez").status_code == 200


def test_a_bucket_fills_again_up_to_its_size() -> None:
    now = [0.0]
    rate = Rate(10.0, lambda: now[0])

    def taken() -> int:
        count = 0
        while count < 1000:
            try:
                rate.take("a")
            except RequestError:
                return count
            count += 1
        return count

    assert taken() == 40
    now[0] = 1.0
    assert taken() == 10
    now[0] = 1000.0
    assert taken() == 40


def test_a30_a_tenant_has_a_limited_number_of_jobs(
    database: Database, submit_small: Callable[[TestClient], int]
) -> None:
    with TestClient(create_app(Settings(job_quota=1), database), base_url=ORIGIN) as client:
        assert submit_small(client) == 202
        assert submit_small(client) == 429
        with database.write() as session:
            (job,) = jobs.list_jobs(session, tenant="local").items
            jobs.request(session, job.id, "cancel")
        assert submit_small(client) == 202


def test_f65_a_budget_over_the_limit_is_refused_with_both_numbers(database: Database) -> None:
    with TestClient(create_app(Settings(trial_quota=10), database), base_url=ORIGIN) as client:
        answer = client.post("/v1/jobs", json={"budget": {"trials": 11}})
        assert answer.status_code == 422
        assert "budget.trials=11 is more than this server's 10" in answer.json()["detail"]


def test_every_change_says_who_asked_for_it_and_looking_says_nothing(
    client: TestClient, database: Database, job: JobRecord
) -> None:
    secret = made(database)
    headers = bearer(secret)
    client.get(f"/v1/jobs/{job.id}", headers=headers)
    client.patch(f"/v1/jobs/{job.id}", json={"name": "new"}, headers=headers)
    client.patch(f"/v1/jobs/{job.id}", json={"state": "x"}, headers=headers)  # refused
    client.delete(f"/v1/jobs/{job.id}", headers=headers)
    found = client.get("/v1/audit", headers=headers).json()["items"]
    assert [(one["action"], one["subject"], one["key"]) for one in found] == [
        ("DELETE /v1/jobs/{job_id}", job.id, secret.split("_")[1]),
        ("PATCH /v1/jobs/{job_id}", job.id, secret.split("_")[1]),
    ]
    assert secret not in str(found)


def test_a_key_remembers_when_it_was_used_last(client: TestClient, database: Database) -> None:
    secret = made(database)
    client.get("/v1/jobs", headers=bearer(secret))
    with database.read() as session:
        (record,) = keys.list_keys(session)
    assert record.last_used_at is not None


def test_f67_a_caller_has_a_limited_number_of_streams(database: Database) -> None:
    job = fill(database, until="running")
    settings = Settings(stream_limit=1, heartbeat_s=0.1)
    application = create_app(settings, database)
    with TestClient(application, base_url=ORIGIN) as client:
        statuses: list[int] = []

        def watch() -> None:
            statuses.append(client.get(f"/v1/jobs/{job.id}/events").status_code)

        first = threading.Thread(target=watch)
        first.start()
        while first.is_alive() and not application.state.services.streams.total:
            time.sleep(0.01)
        try:
            assert client.get(f"/v1/jobs/{job.id}/events").status_code == 429
        finally:
            application.state.services.stopping.set()
            first.join()
        assert statuses == [200]
        assert application.state.services.streams.total == 0
