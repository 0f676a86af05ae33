"""A job that goes on where another one ended."""

from typing import TYPE_CHECKING, Any

import pytest

from search.continuing import continued_plan
from search.running import result
from search.storage import trials
from search.storage.check import check
from search.workers.store import store_of
from space.errors import InvalidInputError

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

FEW: dict[str, Any] = {
    "training": {"steps": 8, "rungs": 1}, "screen": {"candidates": 1}, "finalists": {"count": 0},
    "strategy": {"kind": "random"}, "budget": {"trials": 6},
}  # fmt: skip


def test_the_new_job_begins_with_the_old_front_and_repeats_nothing(bench: Bench) -> None:
    plan, database = bench.plan(**FEW), bench.open()
    first = bench.create(plan, database)
    bench.work(first, plan, database=database)
    job = result(database, first).job
    with database.read() as session:
        earlier = {row.architecture_id: row for row in trials.all_trials(session, first) if row.number >= 0}
    with pytest.raises(InvalidInputError, match="budget"):
        continued_plan(job, ["budget.trials=0"], store_of(database))
    more = continued_plan(job, ["budget.trials=9"], store_of(database))
    assert (more.spec.warm_start, more.enqueued) == (first, ())
    second = bench.create(more, database)
    done = bench.work(second, more, database=database).done
    with database.read() as session:
        rows = [row for row in trials.all_trials(session, second) if row.number >= 0]
    taken = [row for row in rows if row.origin == "earlier"]
    front = {id for id, row in earlier.items() if row.on_front}
    assert {row.architecture_id for row in taken} == front
    assert {row.architecture_id for row in rows} & earlier.keys() == front
    trained = {key.split("/")[1] for key in done if key.startswith("train/")}
    assert not trained & {row.training_id for row in earlier.values()}
    assert len(rows) == 9
    assert check(database) == []
