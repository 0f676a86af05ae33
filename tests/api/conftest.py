"""A database with a finished job whose rows were written as a coordinator writes them, and a client on it."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.app import create_app
from api.settings import Settings
from api.spaces import preset_space
from search.indicators import indicators
from search.job import parse_job
from search.records import JobRecord, Origin
from search.storage import jobs, trials
from search.storage.database import Database
from space.architecture import Architecture
from space.constraints import static_costs
from space.reference_family import reference_family
from space.sampling import sample

from ..search.conftest import any_bench, new_postgresql, postgresql_url

__all__ = ["any_bench", "new_postgresql", "postgresql_url"]

ORIGIN = "http://127.0.0.1:8765"
OBJECTIVES = ("bits_per_byte", "latency_s")


def fill(
    database: Database, *, name: str = "finished", tenant: str = "local", until: str = "completed"
) -> JobRecord:
    """A job of four references and six trials; `until` is the state it is left in."""
    spec = parse_job({"name": name, "objectives": list(OBJECTIVES), "budget": {"trials": 6}})
    space = preset_space("decoder-small")
    rng = random.Random(0)
    drawn: list[tuple[int, Architecture, Origin]] = [
        (-1 - i, one.architecture, "reference") for i, one in enumerate(reference_family(space, 1)[:4])
    ]
    drawn += [(i, sample(space, rng), "random") for i in range(6)]
    with database.write() as session:
        job = jobs.create(
            session,
            name=name,
            spec=spec.model_dump(mode="json"),
            objectives=OBJECTIVES,
            tenant=tenant,
            lease=("test", database.now() + 600),
            context={"warnings": [], "enqueued": [], "rung_steps": [75, 150, 300], "data_digest": "0" * 64},
        )
        for number, architecture, origin in drawn:
            trials.create(
                session, job.id, job.fence, number=number, origin=origin, parents=(), note="", asked_after=1,
                architecture=architecture,
            )  # fmt: skip
            trials.set_state(session, job.id, number, job.fence, "running")
            quality = 3.0 - 0.1 * rng.random() if number < 0 else 2.0 + rng.random()
            values = static_costs(architecture, 1, 128)
            values |= {"bits_per_byte": quality, "latency_s": 1e-4 * (1 + 10 * rng.random())}
            kinds = dict.fromkeys(values, "computed") | dict.fromkeys(OBJECTIVES, "measured")
            trials.record(
                session, job.id, number, job.fence, values=values, spread={}, kinds=kinds, steps=300
            )
            trials.complete(session, job.id, number, job.fence)
        rows = trials.all_trials(session, job.id)
        found = indicators([r for r in rows if r.number >= 0], [r for r in rows if r.number < 0], OBJECTIVES)
        jobs.set_indicators(session, job.id, job.fence, found)
        if until == "completed":
            return jobs.set_state(session, job.id, "completed", fence=job.fence, reason="budget_reached")
        return jobs.get(session, job.id)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(f"sqlite:///{tmp_path}/p.db")
    yield opened
    opened.close()


@pytest.fixture
def job(database: Database) -> JobRecord:
    return fill(database)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "prose.txt").write_text("the quick brown fox jumps over the lazy dog. " * 400)
    return Settings(datasets=tmp_path / "datasets", heartbeat_s=0.2, rate_limit=0)


@pytest.fixture
def application(database: Database, settings: Settings) -> FastAPI:
    return create_app(settings, database)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Each test that asks for it runs on both engines."""
    if request.param == "sqlite":
        opened = Database.open(f"sqlite:///{tmp_path}/any.db")
    else:
        opened = Database.open(request.getfixturevalue("new_postgresql"), data_dir=tmp_path / "any")
    yield opened
    opened.close()


@pytest.fixture
def any_client(any_database: Database, settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings, any_database), base_url=ORIGIN) as made:
        yield made


@pytest.fixture
def submit_small() -> Callable[[TestClient], int]:
    """Submits a small job; returns the status."""

    def submit(client: TestClient) -> int:
        body = {"space": {"set": {"d_model": [32], "num_layers": [1]}}, "references": {"sizes": 1}}
        return client.post("/v1/jobs", json={**body, "budget": {"trials": 2}}).status_code

    return submit


@pytest.fixture
def client(application: FastAPI) -> Iterator[TestClient]:
    with TestClient(application, base_url=ORIGIN) as made:
        yield made
