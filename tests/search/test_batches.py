"""A deterministic search is the same for any number of workers, whichever of them is quicker."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from search.coordinator import Coordinator
from search.plan import JobPlan
from search.running import owner_name
from search.storage import jobs, trials
from search.storage.database import Database
from search.workers.batches import Batches
from search.workers.work import Outcome, Work

from .conftest import FormulaExecutor

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

Visited = list[tuple[int, str, str, int, dict[str, float], bool]]


class Uneven(FormulaExecutor):
    """Several workers; which of them answers next is drawn."""

    def __init__(self, plan: JobPlan, folder: Path, slots: int) -> None:
        super().__init__(plan, folder)
        self.num_slots = slots
        self._rng = random.Random(slots)

    def poll(self, timeout_s: float) -> Sequence[Outcome]:
        self._queue.rotate(self._rng.randrange(8))
        return super().poll(timeout_s)


def visited(bench: Bench, plan: JobPlan, folder: Path, slots: int) -> Visited:
    """Everything but times, of a job on so many workers and a database of its own."""
    database = Database.open(f"sqlite:///{folder / f'{slots}.db'}", data_dir=folder / str(slots))
    job_id = bench.create(plan, database)
    with database.write() as session:
        job = jobs.take(session, job_id, owner_name(), 15.0, time.time())
    with Uneven(plan, database.data_dir / "training", slots) as executor:
        Coordinator(database, job, plan, executor).run()
    with database.read() as session:
        rows = trials.all_trials(session, job_id)
    database.close()
    return [
        (row.number, row.architecture_id, row.state, row.rung, dict(row.effective), row.on_front)
        for row in rows
    ]


@pytest.mark.slow
def test_one_two_and_four_workers_visit_the_same(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(
        strategy={"kind": "nsga2", "deterministic": True, "batch": 4},
        finalists={"count": 0},
        budget={"trials": 7},
    )
    one, two, four = (visited(bench, plan, tmp_path, slots) for slots in (1, 2, 4))
    assert one == two == four
    assert sum(number >= 0 for number, *_ in one) == 7


@pytest.mark.slow
def test_otherwise_who_answers_first_decides(bench: Bench, tmp_path: Path) -> None:
    """So the test above tests something."""
    plan = bench.plan(strategy={"kind": "random"}, finalists={"count": 0}, budget={"trials": 9})
    assert visited(bench, plan, tmp_path, 1) != visited(bench, plan, tmp_path, 4)


def test_results_come_together_in_the_order_in_which_the_work_was_given(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan()
    batches = Batches(Uneven(plan, tmp_path, 2), 3)
    payload: dict[str, Any] = {"architectures": [], "proxies": [], "known_blocks": []}
    for name in "abc":
        assert batches.num_busy < batches.num_slots
        batches.submit(Work(name, "screen", payload, 60.0))
    found: Sequence[Outcome] = []
    while not found:
        assert batches.num_busy == 3
        found = batches.poll(0.0)
    assert [outcome.key for outcome in found] == ["a", "b", "c"]
    assert batches.num_busy == 0


def test_a_batch_that_has_begun_gets_no_more_work(bench: Bench, tmp_path: Path) -> None:
    batches = Batches(Uneven(bench.plan(), tmp_path, 1), 3)
    payload: dict[str, Any] = {"architectures": [], "proxies": [], "known_blocks": []}
    batches.submit(Work("a", "screen", payload, 60.0))
    batches.submit(Work("b", "screen", payload, 60.0))
    assert batches.poll(0.0) == []
    assert batches.num_busy == batches.num_slots
    batches.cancel_all()
    assert batches.num_busy == 0
