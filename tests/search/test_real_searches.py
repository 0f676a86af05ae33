"""Whole searches with real trainings on Ray: deterministic for any number of workers, and replayable.

What is timed is never the same twice and takes minutes on a busy machine, so clocks alone are a formula here.
"""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.coordinator import Coordinator
from search.crew import make_bench
from search.job import parse_job
from search.plan import plan_job
from search.replay import Replay, Replayed
from search.running import create_job, owner_name, stored_plan
from search.storage import jobs, trials
from search.storage.database import Database
from search.workers.ray import RayExecutor, connect
from search.workers.ray_pool import Run
from search.workers.store import store_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]  # a minute, on a quiet machine

SPEC: dict[str, Any] = {
    "task": {"kind": "image", "dataset": "digits"},
    "space": {"set": {"d_model": [16, 24], "num_layers": [1, 2], "mixer": ["softmax", "pool", "gated_conv"]}},
    "objectives": ["loss", "params"],
    "strategy": {"kind": "surrogate", "deterministic": True, "batch": 3},
    "training": {"steps": 6, "rungs": 2},
    "screen": {"candidates": 1},
    "references": {"sizes": 1},
    "finalists": {"count": 0},
    "budget": {"trials": 16},
}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One for all: to start it takes longer than a search."""
    import ray

    was_started = connect("local", 2)
    yield
    if was_started:
        ray.shutdown()


def untimed() -> Run:
    """The work of a real worker; defined here, it travels to it by value."""

    def run(work: Any, bench: Any) -> Any:
        from dataclasses import replace

        from evaluators.latency import blocks_of
        from evaluators.protocol import Measurement
        from search.workers.stages import outcome_of, pack
        from search.workers.work import Outcome
        from space.architecture import parse_architecture

        def clock(quantity: str, of: str) -> dict[str, Any]:
            seconds = 1e-4 * (1 + int(of[:6], 16) / 2**24)
            return pack(Measurement(quantity, seconds, "s", "measured", spread=1e-6))

        if work.stage == "screen":
            drawn = [parse_architecture(text) for text in work.payload["architectures"]]
            blocks = {block.id for one in drawn for block in blocks_of(one, bench.target)}
            timed = {id: clock("block_latency_s", id) for id in blocks - set(work.payload["known_blocks"])}
            return Outcome(work.key, result={"proxies": [{} for _ in drawn], "blocks": timed})
        if work.stage == "measure":
            found = outcome_of(replace(work, payload={**work.payload, "latency": False}), bench)
            id = parse_architecture(work.payload["architecture"]).id
            metrics = {**(found.result or {})["metrics"], "latency_s": clock("latency_s", id)}
            return replace(found, result={**(found.result or {}), "metrics": metrics})
        return outcome_of(work, bench)

    return run


def searched(folder: Path, workers: int, **changes: Any) -> tuple[str, str, list[Any]]:
    """Address of the database, the job's id, and everything that is not timed."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'jobs.db'}"
    database = Database.open(url)
    plan = plan_job(parse_job({**SPEC, **changes}))
    job = create_job(database, plan, lease=(owner_name(), 15.0))
    with RayExecutor(make_bench(plan, database), num_slots=workers, run=untimed()) as executor:
        Coordinator(database, job, plan, executor, beside=True).run()
    with database.read() as session:
        rows = trials.all_trials(session, job.id)
    database.close()
    assert len(rows) == 16 + len(plan.references)
    assert any(row.origin == "model" for row in rows)
    return url, job.id, [
        (
            row.number, row.architecture_id, row.origin, row.note, row.state, row.rung, row.on_front,
            row.effective.get("loss"), row.effective["params"],
        )
        for row in rows
    ]  # fmt: skip


def replayed(url: str, job_id: str) -> list[Replayed]:
    database = Database.open(url)
    with database.read() as session:
        plan = stored_plan(jobs.get(session, job_id), store_of(database))
    return Replay(database, job_id, plan).run()


def test_one_and_two_workers_search_alike(tmp_path: Path) -> None:
    *_, one = searched(tmp_path / "one", 1)
    *_, two = searched(tmp_path / "two", 2)
    assert one == two


def test_a_search_of_two_workers_replays_from_its_events_in_another_process(tmp_path: Path) -> None:
    url, job_id, _ = searched(tmp_path / "two", 2, strategy={"kind": "surrogate"}, screen={"candidates": 2})
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(replayed, (url, job_id))
    assert [one.verdict for one in found] == ["equal"] * 16
