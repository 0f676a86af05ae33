"""Hostile requests of `faults.md` section 6, by their ids, against the application and on raw sockets."""

import ast
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event

from api.app import create_app
from api.logging import PACKAGES, configure_logging
from api.safe_versions import LEAST, check_versions
from api.settings import Settings
from search.records import JobRecord
from search.storage import jobs
from search.storage.database import Database
from space.errors import UnsupportedError

from .conftest import fill
from .surface import address, routes
from .test_client import served

ROOT = Path(__file__).parents[2]
ROOMS = ("space", "evaluators", "search", "dashboards", "api")
SQL = (
    "' OR 1=1 --",
    "1; DROP TABLE jobs",
    '" UNION SELECT sha256 FROM api_keys --',
    "\\",
    "%",
    "_" * 40,
    "\0",
    "\ud800",
)


@pytest.mark.parametrize("value", [-1, 0, 2**31, 10**15, 1.5, "many", None, [], {}])
@pytest.mark.parametrize("gene", ["d_model", "num_layers"])
def test_a04_absurd_sizes_are_refused_before_anything_is_allocated(
    client: TestClient, gene: str, value: object
) -> None:
    for domain in ([value], value):
        answer = client.post("/v1/jobs", json={"space": {"set": {gene: domain}}})
        assert answer.status_code == 422, answer.text
    budget = client.post("/v1/jobs", json={"budget": {"trials": value}})
    assert budget.status_code == 422


def test_a04_an_architecture_of_quadrillions_of_weights_is_refused_at_once(client: TestClient) -> None:
    example = client.get("/openapi.json").json()["paths"]["/v1/architectures:score"]["post"]["requestBody"]
    sent = example["content"]["application/json"]["example"]
    sent["architecture"]["d_model"] = 2**26
    sent["architecture"]["layers"] *= 2
    begin = time.process_time()
    answer = client.post("/v1/architectures:score", json=sent)
    assert answer.status_code == 422, answer.text
    assert time.process_time() - begin < 1.0


def test_a05_a_space_of_astronomic_size_is_counted_and_not_listed(client: TestClient) -> None:
    sizes = {one["name"]: int(one["size"]) for one in [client.get("/v1/spaces/decoder-small").json()]}
    assert sizes["decoder-small"] > 10**9
    sent = {"space": {"set": {"num_layers": [1, 2, 24], "d_model": [32, 64]}}, "constraints": {"params": 5e5}}
    answer = client.post("/v1/jobs", json={**sent, "references": {"sizes": 1}, "budget": {"trials": 2}})
    assert answer.status_code in (202, 422)  # whichever: at once, and from closed forms


def test_a09_nothing_in_the_program_loads_a_pickle() -> None:
    """A name in the source, not a run: `pickle`, `marshal`, `shelve`, `dill`, `joblib.load`, unsafe YAML."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                    assert not names & {"pickle", "marshal", "shelve", "dill", "cloudpickle"}, path
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    assert called not in ("yaml.load", "yaml.unsafe_load", "joblib.load", "torch.load"), path
                    writes_code = (
                        room == "space" and "source" in path.parts
                    )  # folds constants of our own text
                    assert called not in ("eval", "exec") or writes_code, path
                    if called == "np.load":
                        assert "allow_pickle=True" not in ast.unparse(node), path


@pytest.mark.parametrize("text", SQL)
def test_a12_a13_no_query_is_more_than_a_value(
    client: TestClient, database: Database, job: JobRecord, text: str
) -> None:
    """Every query parameter of every GET, and nothing of the text in a statement."""
    said: list[str] = []

    def note(_c: object, _cu: object, statement: str, *_rest: object) -> None:
        said.append(statement)

    event.listen(database._engine, "before_cursor_execute", note)
    ids = {"job_id": job.id}
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for parameter in operations.get("get", {}).get("parameters", ()):
            if parameter["in"] != "query" or path.endswith("/events"):
                continue
            sent = text.encode("utf-8", "replace").decode()
            answer = client.get(address(path, **ids), params={parameter["name"]: sent})
            assert answer.status_code in (200, 400, 422), (path, parameter["name"], answer.text)
    if len(text) > 3:
        assert not any(text in statement for statement in said)
    assert client.get("/v1/jobs", params={"query": "%"}).json()["items"] == []
    assert client.get("/v1/jobs", params={"query": "inis"}).json()["items"]


def test_a12_a_cursor_that_was_changed_or_belongs_elsewhere_is_refused(
    client: TestClient, database: Database
) -> None:
    first, _ = fill(database, name="a"), fill(database, name="b")
    cursor = client.get("/v1/jobs?limit=1").json()["next_cursor"]
    trials = client.get(f"/v1/jobs/{first.id}/trials?limit=1").json()["next_cursor"]
    path = f"/v1/jobs/{first.id}/trials"
    for place, query in (
        ("/v1/jobs", {"cursor": cursor[:-1] + ("A" if cursor[-1] != "A" else "B")}),
        ("/v1/jobs", {"cursor": f"x{cursor}"}),
        ("/v1/jobs", {"cursor": trials}),
        (path, {"cursor": trials, "sort": "latency_s"}),
        (path, {"cursor": trials, "group": "all"}),
        (path, {"cursor": cursor}),
        (path, {"cursor": ""}),
    ):
        answer = client.get(place, params=query)
        assert (answer.status_code, answer.json().get("code")) == (400, "bad_cursor"), query
    assert client.get(path, params={"cursor": trials}).status_code == 200


@pytest.mark.parametrize("name", ["two\nlines", "a\r\nX-Evil: 1", "\x1b[31m", "‮", "\x00"])
def test_a16_a_name_with_line_breaks_reaches_neither_header_nor_log(
    client: TestClient, job: JobRecord, name: str
) -> None:
    assert client.patch(f"/v1/jobs/{job.id}", json={"name": name}).status_code == 422
    assert client.patch(f"/v1/jobs/{job.id}", json={"labels": [name]}).status_code == 422
    answer = client.post("/v1/jobs", json={"name": name})
    assert answer.status_code == 422
    assert "x-evil" not in answer.headers


def test_a16_a_line_break_in_a_log_field_stays_one_line() -> None:
    stream = StringIO()
    configure_logging("debug", "json", stream)
    logging.getLogger("api").warning("told", extra={"job_id": 'a\n{"level": "error"}'})
    _quiet()
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["job_id"].startswith("a\n")


def _quiet() -> None:
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)


def test_a25_no_field_of_the_interface_is_an_address_to_be_fetched(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    names = set(re.findall(r'"(\w+)": ?\{', json.dumps(document["components"]["schemas"])))
    assert not {name for name in names if re.search(r"url|uri|webhook|callback|endpoint", name)}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    database = Database.open(tmp_path_factory.mktemp("raw") / "p.db")
    with served(create_app(Settings(), database)) as bound:
        yield bound
    database.close()


@pytest.mark.parametrize(
    ("raw", "statuses"),
    [
        (b"TRACE /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
        (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404, 405}),
        (b"BREW /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
        (b"GET / HTTP/1.1\r\n\r\n", {400}),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n", {400, 421}),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", {400, 431}),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 414, 431}),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", {400, 413}),
        (
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999\r\n\r\n",
            {400, 413},
        ),
        (
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            {400, 413, 422, 202},
        ),
        (
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
            b"Content-Length: 0\r\n\r\n",
            {415},
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", {400}),
        (b"GET /v1/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
        (b"GET /static/..%2f..%2fapp.py HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
    ],
)
def test_a26_odd_bytes_get_a_plain_refusal(port: int, raw: bytes, statuses: set[int]) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(raw)
        answer = line.recv(65536)
    status = int(answer.split(b" ", 2)[1])
    assert status in statuses, answer[:200]
    assert b"Traceback" not in answer


def test_a12_a26_nul_characters_in_addresses_reach_no_database(
    any_client: TestClient, any_database: Database
) -> None:
    """PostgreSQL stores none and refuses a query with one."""
    job = fill(any_database)
    application = any_client.app
    assert isinstance(application, FastAPI)
    asked = 0
    for method, path in routes(application):
        named = path.count("{")
        if method != "GET" or path.endswith("/events"):
            continue
        parameters = application.openapi()["paths"].get(path, {}).get("get", {}).get("parameters", [])
        searched = [one["name"] for one in parameters if one["in"] == "query"]
        places = [f"{address(path, job_id=job.id)}?{name}=a%00b" for name in (*searched, "query", "label")]
        if named:
            odd = dict.fromkeys(
                ("job_id", "export_id", "dataset_id", "architecture_id", "name", "key"), "a%00b"
            )
            places.append(address(path, **odd))
        for place in places:
            answer = any_client.get(place)
            assert answer.status_code < 500, place
            asked += 1
    assert asked > 100
    refused = any_client.get("/v1/jobs?label=a%00b")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")
    assert "NUL" in refused.json()["detail"]


def test_a28_ids_are_random_and_numbers_stay_inside_a_job(client: TestClient, database: Database) -> None:
    ids = [fill(database, name=str(i)).id for i in range(3)]
    plain = {"Content-Type": "text/plain"}
    ids += [client.post("/v1/datasets", content=b"%d" % i, headers=plain).json()["id"] for i in range(3)]
    assert len({one[:8] for one in ids}) == len(ids)
    assert all(
        re.fullmatch(r"[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", one) for one in ids
    )  # 122 random bits


def test_a29_a_server_does_not_start_with_packages_that_have_known_holes() -> None:
    check_versions()
    with pytest.raises(UnsupportedError, match=r"h11 0\.9\.0 \(CVE"):
        check_versions(lambda name: "0.9.0" if name == "h11" else LEAST[name][0])


def test_a31_a_fault_on_any_route_says_nothing_of_the_inside(
    application: FastAPI, client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the secret is hunter-two in /root/x.py")

    monkeypatch.setattr(database, "read", crash)
    monkeypatch.setattr(database, "write", crash)
    failed = 0
    for method, path in routes(application):
        answer = client.request(method, address(path))
        assert "hunter-two" not in answer.text, path
        assert "Traceback" not in answer.text, path
        assert str(ROOT) not in answer.text, path
        if answer.status_code == 500 and path.startswith("/v1"):
            assert answer.json()["code"] == "internal"
            failed += 1
    assert failed > 20


def test_f58_two_equal_submissions_at_once_are_one_job(
    any_client: TestClient, any_database: Database
) -> None:
    body = {
        "task": {"dataset": "prose.txt"},
        "space": {"set": {"d_model": [32], "num_layers": [1]}},
        "references": {"sizes": 1},
    }
    answers: list[Any] = []

    def send() -> None:
        answers.append(any_client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "one"}))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    with any_database.read() as session:
        assert len(jobs.list_jobs(session, tenant="local").items) == 1


def test_a27_of_two_changes_at_once_one_is_told(any_client: TestClient, any_database: Database) -> None:
    job = fill(any_database)
    tag = any_client.get(f"/v1/jobs/{job.id}").headers["etag"]
    statuses: list[int] = []

    def change(name: str) -> None:
        sent = {"name": name}
        answer = any_client.patch(f"/v1/jobs/{job.id}", json=sent, headers={"If-Match": tag})
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=change, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 412, 412, 412]
