"""A job that begins with the results of an earlier one: same task, other device, other task."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from search.clock import Clock
from search.history import History, told_by_definition
from search.ledger import Ledger
from search.plan import JobPlan
from search.records import JobRecord
from search.storage import jobs
from search.storage.database import Database
from search.strategies import SurrogateEvolution, Told
from search.strategies.strategy import stream
from search.warm_start import FIRST_NUMBER, WarmStart
from space.architecture import BytesInterface
from space.costs import costs
from space.errors import InvalidInputError
from space.sampling import sample
from space.search_space import load_preset

from .conftest import Bench as Runs
from .test_coordinator import rows

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

NO_FINALISTS = {"finalists": {"count": 0}, "strategy": {"kind": "nsga2"}}


def record(database: Database, job_id: str) -> JobRecord:
    with database.read() as session:
        return jobs.get(session, job_id)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One database for all tests of this file: what they have in common is the earlier job."""
    return Runs(tmp_path_factory.mktemp("warm"))


@pytest.fixture(scope="module")
def earlier(bench: Bench) -> tuple[Database, str]:
    plan, database = bench.plan(**NO_FINALISTS), bench.open()
    job_id = bench.create(plan, database)
    bench.work(job_id, plan, database=database)
    return database, job_id


def began(database: Database, job_id: str, plan: JobPlan) -> WarmStart:
    return WarmStart(Ledger(database, record(database, job_id), plan, Clock()))


@pytest.mark.slow
def test_on_the_same_task_nothing_is_trained_twice_and_the_front_is_never_worse(
    bench: Bench, earlier: tuple[Database, str]
) -> None:
    database, first = earlier
    plan = bench.plan(**NO_FINALISTS, warm_start=first, budget={"trials": 10})
    second = bench.create(plan, database)
    context = record(database, second).context
    known = [row for row in rows(database, first) if row.number >= 0]
    front = {row.architecture_id for row in known if row.on_front}
    assert context["warm_start"] == {
        "job": first, "relation": "same", "trials": len(known), "front": len(front)
    }  # fmt: skip
    done = bench.work(second, plan, database=database).done
    trained = {key for row in known for key in [f"train/{row.training_id}"]}
    assert not [key for key in done if key.rsplit("/", 3)[0] in trained]
    found = [row for row in rows(database, second) if row.number >= 0]
    taken = [row for row in found if row.origin == "earlier"]
    assert {row.architecture_id for row in taken} <= front
    assert taken[0].note == f"front of job {first[:8]}"
    assert all(row.state == "completed" for row in taken if row.rung == 2)
    # what was tried and is not on the front is not tried again
    again = {row.architecture_id for row in found} & {row.architecture_id for row in known}
    assert again <= front
    volume = [record(database, job_id).indicators["hypervolume"] for job_id in (first, second)]
    assert volume[1] >= volume[0] * (1 - 1e-9)
    assert all(parent >= 0 for row in found for parent in row.parents)


def test_earlier_results_are_history_before_the_first_trial(
    bench: Bench, earlier: tuple[Database, str]
) -> None:
    database, first = earlier
    plan = bench.plan(**NO_FINALISTS, warm_start=first[:8], budget={"trials": 10})
    job_id = bench.create(plan, database)
    ledger = Ledger(database, record(database, job_id), plan, Clock())
    history = History(ledger)
    told = history.told()
    assert [one.number for one in told] == [FIRST_NUMBER + k for k in range(8)]
    assert told == told_by_definition(ledger)
    known = {row.number: row for row in rows(database, first)}
    for one, row in zip(told, (known[number] for number in range(8)), strict=True):
        assert one.objectives == (row.values["bits_per_byte"], row.values["latency_s"])
        assert (one.complete, one.fidelity) == ((True, 1.0) if row.rung == 2 else (False, 0.5))
    front = {row.architecture_id for row in known.values() if row.on_front and row.number >= 0}
    assert history.ids == {one.architecture.id for one in told} - front


def test_another_device_keeps_losses_and_learns_latencies_from_three_pairs(
    bench: Bench, earlier: tuple[Database, str]
) -> None:
    database, first = earlier
    plan = bench.plan(**NO_FINALISTS, warm_start=first, target={"batch_size": 2})
    job_id = bench.create(plan, database)
    start = began(database, job_id, plan)
    assert start.relation == "device"
    assert start.told({}) == []
    assert start.seen == frozenset()
    measured = [row for row in rows(database, first) if row.number >= 0 and "latency_s" in row.values]
    sure = [row for row in measured if row.kinds["latency_s"] == "measured"]
    predicted = next(row for row in measured if row.kinds["latency_s"] == "predicted")
    new = {
        row.architecture_id: replace(
            row,
            values={**row.values, "latency_s": factor * row.values["latency_s"]},
            kinds={**row.kinds, "latency_s": "measured"},
        )
        for row, factor in (*((row, 3) for row in sure[:3]), (predicted, 100))  # no pair: one side is a guess
    }
    told = start.told(new)
    assert len(told) == len(measured) - 4
    for one in told:
        old = next(row for row in measured if row.architecture_id == one.architecture.id)
        assert one.objectives == pytest.approx((old.values["bits_per_byte"], 3 * old.values["latency_s"]))


@pytest.mark.parametrize("is_old", [False, True])
def test_another_device_is_told_results_also_where_latency_is_no_objective(
    bench: Bench, earlier: tuple[Database, str], is_old: bool
) -> None:
    database, first = earlier
    plan = bench.plan(
        **NO_FINALISTS, warm_start=first, target={"batch_size": 2}, objectives=["quality", "params"]
    )
    job = record(database, bench.create(plan, database))
    if is_old:  # rows of jobs from before the flag
        rows_of = [row[:6] for row in job.context["earlier_trials"]]
        job = replace(job, context={**job.context, "earlier_trials": rows_of})
    start = WarmStart(Ledger(database, job, plan, Clock()))
    assert start.relation == "device"
    known = [row for row in rows(database, first) if row.number >= 0]
    tried = {row.architecture_id: row for row in known if row.kinds.get("latency_s") == "measured"}
    assert tried
    assert len(start.told(tried)) == len(known) - len(tried)


@pytest.mark.slow
def test_another_device_measures_the_front_anew_without_training_it(
    bench: Bench, earlier: tuple[Database, str]
) -> None:
    database, first = earlier
    plan = bench.plan(**NO_FINALISTS, warm_start=first, target={"batch_size": 2})
    second = bench.create(plan, database)
    done = bench.work(second, plan, database=database).done
    taken = [row for row in rows(database, second) if row.origin == "earlier"]
    assert taken
    for row in taken:
        assert f"measure/{row.architecture_id}/8/0/" in done or row.kinds["latency_s"] == "predicted"
        assert not [key for key in done if key.startswith(f"train/{row.training_id}/")]


def test_another_training_gives_a_front_to_try_and_a_prior(
    bench: Bench, earlier: tuple[Database, str]
) -> None:
    database, first = earlier
    plan = bench.plan(
        **NO_FINALISTS, warm_start=first, training={"steps": 12, "rungs": 2}, task={"length": 64}
    )
    start = began(database, bench.create(plan, database), plan)
    assert start.relation == "task"
    assert (start.told({}), start.seen) == ([], frozenset())
    assert len(start.prior) == 8
    assert start.front
    assert all(plan.space.contains(one) for one in start.front)


def test_a_job_that_is_not_there_or_of_another_kind_is_refused(
    bench: Bench, earlier: tuple[Database, str]
) -> None:
    database, first = earlier
    with pytest.raises(InvalidInputError, match="does not exist"):
        bench.create(bench.plan(warm_start="0123456789"), database)
    image = bench.plan(task={"kind": "image", "dataset": "digits"}, warm_start=first)
    with pytest.raises(InvalidInputError, match="searched decoder models"):
        bench.create(image, database)
    empty = bench.create(bench.plan(), database)
    with pytest.raises(InvalidInputError, match="has no result yet"):
        bench.create(bench.plan(warm_start=empty), database)


def test_a_model_of_another_task_helps_as_far_as_it_agrees() -> None:
    """Twenty earlier results and eight new ones on half their scale: the prior brings the order along."""
    space = load_preset("decoder-small").for_interface(BytesInterface(context_length=32, outputs=256))
    drawn = [sample(space, stream(0, k)) for k in range(60)]

    def quality(index: int) -> float:
        return math.log(costs(drawn[index]).params) * math.sqrt(len(drawn[index].layers))

    prior = tuple(Told(k, drawn[k], (quality(k),)) for k in range(40))
    new = [Told(k, drawn[k], (0.5 * quality(k), 1.0 + k)) for k in range(40, 48)]
    keys = ("bits_per_byte", "latency_s")
    found = {}
    for name, known in (("with", prior), ("without", ())):
        strategy = SurrogateEvolution(space, 0, keys, generations=1, size=4, prior=known)
        brain = strategy._brain(new)
        believed = strategy._believe(brain, drawn[48:]).mean[:, 0]
        truth = np.array([0.5 * quality(k) for k in range(48, 60)])
        found[name] = float(np.abs(believed - truth).mean())
    assert found["with"] < 0.8 * found["without"]
