"""Gate G12 of faults.md: secrets are planted where some arrive, and looked for wherever text is kept."""

import logging
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import make_url

from api.app import create_app
from api.logging import PACKAGES, configure_logging
from api.settings import Settings
from search.crew import Crew
from search.plan import JobPlan
from search.records import JobRecord
from search.service import Service
from search.storage import keys
from search.storage.database import Database
from search.storage.models import Base
from search.workers import stages
from search.workers.stages import outcome_of
from search.workers.work import Outcome
from space.errors import UnavailableError, UnsupportedError

from ..search.conftest import Bench, FormulaExecutor
from ..search.test_exporting import Case
from .conftest import ORIGIN, fill
from .surface import address, routes

SLOW = ("/v1/spaces", "/v1/jobs:preview", "/v1/architectures:score", "/v1/jobs", "/static/{name}")
PASSWORD, OTHERS, BUCKET = "hunter-one", "hunter-two", "hunter-three"
ELSEWHERE = f"postgresql://me:{OTHERS}@host/db and https://me:{BUCKET}@hooks.example/x"


@pytest.fixture
def log() -> Iterator[StringIO]:
    stream = StringIO()
    configure_logging("debug", "json", stream)
    yield stream
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)


@pytest.fixture
def guarded(any_bench: Bench) -> Bench:
    """PostgreSQL with a password in its address, which the server here does not ask for."""
    if any_bench.url.startswith("postgresql"):
        any_bench.url = make_url(any_bench.url).set(password=PASSWORD).render_as_string(hide_password=False)
    return any_bench


def rows_of(database: Database) -> str:
    """Everything that is stored, as text."""
    with database.read() as session:
        return "\n".join(
            str(row) for table in Base.metadata.sorted_tables for row in session.execute(table.select())
        )


def texts_of(folder: Path) -> str:
    return "\n".join(
        f"{path.name} {path.read_bytes().decode('latin-1')}" for path in folder.rglob("*") if path.is_file()
    )


def found(secrets: list[str], *places: str) -> list[str]:
    """The secrets that stand in one of the places; of a key its secret half counts."""
    everything = "\n".join(places)
    return [secret for secret in secrets if secret.split("_", 2)[-1] in everything]


def answers(client: TestClient, secret: str, *, spares: bool, **ids: str) -> str:
    """What every route says to somebody who sends a secret in its header and its address; `spares`: without
    those that delete or stop something."""
    said = []
    for method, path in routes(client.app):  # type: ignore[arg-type]
        if path.endswith("/events") or path in SLOW:
            continue
        if spares and (method == "DELETE" or path.endswith("/{action}")):
            continue
        answer = client.request(
            method,
            address(path, **ids),
            params={"key": secret},
            headers={"Authorization": f"Bearer {secret}", "Accept": "application/json, text/html"},
        )
        said.append(answer.text + str(answer.headers))
    return "\n".join(said)


def test_g12_a21_keys_passwords_and_cookies_are_nowhere_to_be_found(guarded: Bench, log: StringIO) -> None:
    """Keys in headers, addresses, bodies and cookies, right and wrong: no log line, answer or row has one."""
    database = guarded.open()
    job = fill(database)
    with database.write() as session:
        planted = [keys.create(session, name=f"key {i}")[1] for i in range(2)]
    wrong = "pf_deadbeef_" + "s" * 43
    application = create_app(Settings(rate_limit=0), database)
    application.state.services.attempts.failed = lambda *names: None
    with TestClient(application, base_url=ORIGIN) as client:
        said = [answers(client, secret, spares=True, job_id=job.id) for secret in (*planted, wrong)]
        said += [answers(client, secret, spares=False, job_id=job.id) for secret in planted]
        form = re.search(r'name="csrf" value="([0-9a-f]+)"', client.get("/login").text)
        assert form
        client.post("/login", data={"csrf": form[1], "key": planted[0]})
        logging.getLogger("search").error("cannot reach %s with %s", ELSEWHERE, planted[0])
        said.append(client.get("/metrics", headers={"Authorization": f"Bearer {planted[0]}"}).text)
        cookie = client.cookies["pf_session"]
    secrets = [*planted, cookie, PASSWORD, OTHERS, BUCKET]
    assert found(secrets, *said, log.getvalue(), rows_of(database), texts_of(database.data_dir)) == []
    database.close()


class Talkative(FormulaExecutor):
    """Its trainings fail as those of real workers do, with an address in the message."""

    def poll(self, timeout_s: float) -> list[Outcome]:
        if self._queue and self._queue[0].stage == "train" and len(self.done) > 3:
            work = self._queue.popleft()
            self.done.append(work.key)
            return [outcome_of(work, None)]  # type: ignore[arg-type]
        return [*super().poll(timeout_s)]


@pytest.mark.slow
def test_g12_a21_failures_of_jobs_say_what_happened_without_the_secrets_in_it(
    guarded: Bench, log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that fails, a job that fails and one whose workers are away; what is said of them after."""
    database = guarded.open()
    with database.write() as session:
        _, key = keys.create(session, name="mine")
    words = f"no answer from {ELSEWHERE} with {key}"
    changes = {"training": {"steps": 8, "rungs": 1}, "finalists": {"count": 0}, "budget": {"trials": 4}}
    plan = guarded.plan(**changes, screen={"candidates": 1}, strategy={"kind": "random"})
    ids = [guarded.create(plan, database) for _ in range(3)]

    def fail(*_: Any) -> Any:
        raise RuntimeError(words)

    def executor(self: Crew, plan: JobPlan, job: JobRecord) -> FormulaExecutor:
        if job.id == ids[1]:
            raise RuntimeError(words)
        if job.id == ids[2]:
            raise UnavailableError(words)
        return Talkative(plan, database.data_dir / "training")

    monkeypatch.setattr(stages, "train_to", fail)
    monkeypatch.setattr(Crew, "executor", executor)
    service = Service(database)
    while service._claim():
        ((_, thread),) = service._running.values()
        thread.join()
    application = create_app(Settings(rate_limit=0), database)
    with TestClient(application, base_url=ORIGIN) as client:
        said = [answers(client, key, spares=True, job_id=one) for one in ids]
        head = {"Authorization": f"Bearer {key}"}
        said += [client.get(f"/v1/jobs/{ids[0]}/events", headers=head).text]
        said += [client.get(f"/v1/jobs/{one}", headers=head).text for one in ids]
    rows = rows_of(database)
    assert rows.count("no answer from postgresql://***@host/db and https://***@hooks.example/x") > 4
    assert any("no answer from postgresql://***@host/db" in text for text in said)
    secrets = [key, PASSWORD, OTHERS, BUCKET]
    assert found(secrets, *said, log.getvalue(), rows, texts_of(database.data_dir)) == []
    database.close()


@pytest.mark.slow
def test_g12_a21_an_export_holds_neither_secrets_nor_places_of_its_server(
    tmp_path: Path, log: StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets of the environment, and of a failure on the way."""
    monkeypatch.setenv("PARETOFORMER_DATABASE", f"postgresql://me:{PASSWORD}@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", OTHERS)
    case = Case(tmp_path)
    ready = case.run(case.ask("torch"))
    assert ready.state == "ready"

    def fail(*_: Any, **__: Any) -> Any:
        raise UnsupportedError(f"no answer from {ELSEWHERE}")

    monkeypatch.setattr("search.exporting.write_folder", fail)
    failed = case.run(case.ask("torch", licence="MIT"))
    assert (failed.state, str(failed.message).count("://***@")) == ("failed", 2)
    contents = texts_of(case.database.data_dir / "exports")
    assert "export_report.json" in contents
    secrets = [PASSWORD, OTHERS, BUCKET]
    assert found(secrets, contents, log.getvalue(), rows_of(case.database)) == []
    assert str(tmp_path) not in contents
    case.database.close()
