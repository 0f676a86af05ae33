"""Jobs without training: proxies for quality, a front that is measured, and no claim about accuracy."""

from typing import TYPE_CHECKING, Any

import pytest

from search.job import parse_job
from search.objectives import PROXY_SCORE
from search.plan import plan_job
from search.running import result
from search.storage.check import check
from search.storage.models import Measurement
from search.strategies import ParetoEvolution
from search.training_free import MOST_MEASURED
from space.errors import InvalidInputError

from .conftest import SMALL
from .test_coordinator import rows

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

FREE: dict[str, Any] = {
    "mode": "training_free", "training": {"rungs": 1}, "finalists": {"count": 0},
    "screen": {"candidates": 1, "sample": 16}, "strategy": {"kind": "pareto_evolution"},
    "budget": {"trials": 24},
}  # fmt: skip


def test_a_file_without_training_has_other_defaults() -> None:
    spec = parse_job({"mode": "training_free"})
    assert (spec.strategy.kind, spec.budget.trials, spec.finalists.count) == ("pareto_evolution", 1000, 0)
    assert (spec.screen.candidates, spec.training.rungs) == (1, 1)
    assert parse_job({"mode": "training_free", "strategy": {"kind": "random"}}).strategy.kind == "random"
    assert parse_job(spec.model_dump(mode="json")) == spec
    plan = plan_job(parse_job({**SMALL, **FREE}))
    assert plan.objectives == (PROXY_SCORE, "latency_s")
    assert plan.proxies == ("params_decoder", "depth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finalists": {"count": 2}}, "no finalists"),
        ({"training": {"rungs": 2}}, "no rungs"),
        ({"proxies": []}, "needs proxies"),
        ({"objectives": ["bits_per_byte", "latency"]}, "trains nothing"),
        ({"constraints": {"loss": 3.0}}, "trains nothing"),
    ],
)
def test_what_needs_training_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        plan_job(parse_job({**SMALL, **FREE, **changes}))


@pytest.mark.parametrize("sizes", [1, 2])
def test_nothing_is_trained_the_front_is_measured_and_all_of_it_says_so(bench: Bench, sizes: int) -> None:
    """With four references latency is composed of blocks, with eight it is fitted to whole models."""
    plan, database = bench.plan(**FREE, references={"sizes": sizes}), bench.open()
    job_id = bench.create(plan, database)
    done = bench.work(job_id, plan, database=database).done
    assert not [key for key in done if key.startswith("train/")]
    found = result(database, job_id)
    assert (found.job.state, found.job.reason, found.job.stage) == ("completed", "budget_reached", "search")
    assert found.front
    own = rows(database, job_id)
    assert len([row for row in own if row.number >= 0]) == 24
    assert {row.state for row in own} == {"completed"}
    assert all("unvalidated_accuracy" in row.flags for row in own)
    assert all(row.kinds["latency_s"] == "measured" for row in (*found.front, *found.references))
    assert all(row.kinds[PROXY_SCORE] == "computed" for row in own)
    measured = [row for row in own if row.number >= 0 and row.kinds["latency_s"] == "measured"]
    assert len(found.front) <= len(measured) <= MOST_MEASURED
    # nothing predicted beats a front that was measured as far as it goes
    for row in own:
        if row.number >= 0 and row.kinds["latency_s"] == "predicted":
            assert any(
                one.values[PROXY_SCORE] <= row.values[PROXY_SCORE]
                and one.values["latency_s"] <= row.values["latency_s"]
                for one in measured
            )
    with database.read() as session:
        predictions = session.query(Measurement).filter_by(quantity="latency_s", kind="predicted").all()
        fitted = sum("method" in one.detail for one in predictions)
    assert (fitted == len(predictions)) == (sizes == 2)
    assert found.job.indicators["unvalidated_accuracy"] is True
    assert found.job.indicators["speedup_at_equal_quality"] is None
    assert found.job.indicators["hypervolume"] > 0
    assert check(database) == []


def test_a_taken_up_job_goes_on_where_it_was(bench: Bench) -> None:
    plan, database = bench.plan(**FREE), bench.open()
    whole, cut = bench.create(plan, database), bench.create(plan, database)
    bench.work(whole, plan, database=database)
    count = 0

    def interrupt(work: Any) -> None:
        nonlocal count
        count += 1
        if count == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.work(cut, plan, database=database, pause=interrupt)
    bench.work(cut, plan, database=database)
    visited = [[(row.number, row.architecture_id) for row in rows(database, id)] for id in (whole, cut)]
    assert visited[0] == visited[1]


def test_its_strategy_is_evolution_from_the_front() -> None:
    plan = plan_job(parse_job({**SMALL, **FREE}))
    assert plan.spec.strategy.kind == "pareto_evolution"
    assert ParetoEvolution(plan.space, 0, plan.objectives).objectives[0] == PROXY_SCORE
