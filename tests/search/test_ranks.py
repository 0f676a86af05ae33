"""Finalists' order before and after, ties, and a retraining of one's own choice."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from search.final_stage import reference_trainings
from search.ranks import final_ranks, tied
from search.records import Final, Spread, TrialRecord
from search.retraining import retraining_plan
from search.running import create_job
from search.storage import jobs, trials
from search.workers.store import store_of
from space.errors import ConflictError, InvalidInputError

from .conftest import Bench

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
OBJECTIVES = ("loss", "latency_s")


def trial(number: int, search: float, final: float | None, half: float = 0.1, **more: Any) -> TrialRecord:
    ended = None
    if final is not None:
        spread = {"loss": Spread(final - half, final + half, 3)}
        ended = Final(seeds=3, steps=20, values={"loss": final}, spread=spread, test={})
    fields: dict[str, Any] = {
        "job_id": "j", "number": number, "origin": "random", "parents": (), "note": "", "asked_after": 0,
        "architecture_id": str(number), "training_id": str(number), "architecture": {}, "state": "completed",
        "reason": None, "message": None, "attempt": 0, "rung": 1, "steps": 10, "values": {"loss": search},
        "spread": {}, "kinds": {}, "flags": (), "final": ended, "on_front": True, "created_at": NOW,
        "ended_at": NOW,
    }  # fmt: skip
    return TrialRecord(**{**fields, **more})


def test_ranks_before_and_after_and_who_is_tied() -> None:
    rows = [trial(3, 1.0, 0.80), trial(5, 1.1, 0.50), trial(8, 1.2, 0.90), trial(9, 1.3, None)]
    found = final_ranks(rows, OBJECTIVES)
    assert found is not None
    assert [(one["trial"], one["search_rank"], one["final_rank"]) for one in found["finalists"]] == [
        (5, 2, 1),
        (3, 1, 2),
        (8, 3, 3),
    ]
    assert [one["tied_with"] for one in found["finalists"]] == [[], [8], [3]]
    assert found["changed"] == 2
    assert found["tau"] == pytest.approx(1 / 3)
    assert found["budgets"] == {"finalists": [20], "others": [10]}


def test_references_behind_the_front_are_retrained_when_the_front_is_smaller_than_the_finalists() -> None:
    """Each training once, whatever number formats it is measured in."""
    places = {  # number: (training, loss, latency, on the front)
        -1: ("small", 1.0, 0.1, True), -2: ("small", 1.0, 0.2, False),
        -3: ("middle", 1.2, 0.3, False), -4: ("large", 1.1, 0.9, False), -5: ("bad", 1.3, 1.0, False),
    }  # fmt: skip
    rows = [
        trial(
            number, 0.0, None, training_id=name, values={"loss": loss, "latency_s": seconds}, on_front=front
        )
        for number, (name, loss, seconds, front) in places.items()
    ]
    assert reference_trainings(rows, OBJECTIVES, 1) == {"small"}
    assert reference_trainings(rows, OBJECTIVES, 3) == {"small", "middle", "large"}
    assert reference_trainings(rows, OBJECTIVES, 9) == {"small", "middle", "large", "bad"}
    failed = [replace(row, state="failed", values={}) for row in rows]
    assert reference_trainings(failed, OBJECTIVES, 3) == set()


def test_two_finalists_are_needed_and_one_seed_tells_no_tie() -> None:
    assert final_ranks([trial(3, 1.0, 0.8), trial(4, 1.0, None)], OBJECTIVES) is None
    same = trial(4, 1.0, 0.8)
    alone = replace(same, final=Final(1, 20, {"loss": 0.8}, {}, {}))
    assert tied(trial(3, 1.0, 0.8), same, "loss")
    assert not tied(trial(3, 1.0, 0.8), alone, "loss")


@pytest.mark.slow
def test_picked_trials_are_retrained_and_nothing_is_computed_twice(bench: Bench) -> None:
    plan = bench.plan()
    database = bench.open()
    first = bench.create(plan, database)
    bench.work(first, plan, database=database)
    with database.read() as session:
        job = jobs.get(session, first)
        rows = [one for one in trials.all_trials(session, first) if one.number >= 0]
    assert job.indicators["final_ranks"]["budgets"]["finalists"] == [12]
    completed = [one for one in rows if one.state == "completed"]
    picks = [one for one in completed if not one.final][:1] + [one for one in completed if one.final][:1]
    again = retraining_plan(job, picks, store_of(database), seeds=2, steps=16)
    second = create_job(database, again).id
    done = bench.work(second, again, database=database)
    with database.read() as session:
        found = [one for one in trials.all_trials(session, second) if one.number >= 0]
        name = jobs.get(session, second).name
    assert name.endswith(": retrained")
    assert [one.architecture_id for one in found] == [one.architecture_id for one in picks]
    assert all(one.final and (one.final.seeds, one.final.steps) == (2, 16) for one in found)
    assert not [key for key in done.done if key.startswith("screen") and "random" in key]
    trained = [key for key in done.done if key.endswith("/8")]
    assert trained == []  # the search's trainings are those of the first job
    warm = replace(job, spec={**job.spec, "warm_start": job.id})
    assert retraining_plan(warm, picks, store_of(database)).spec.warm_start is None
    free = replace(job, spec={**job.spec, "mode": "training_free"})
    with pytest.raises(InvalidInputError, match="trains nothing"):
        retraining_plan(free, picks, store_of(database))
    with pytest.raises(InvalidInputError, match=r"finalists\.seeds"):
        retraining_plan(job, picks, store_of(database), seeds=99)
    with pytest.raises(InvalidInputError, match="no trial is picked"):
        retraining_plan(job, [], store_of(database))
    pruned = next(one for one in rows if one.state == "pruned")
    with pytest.raises(InvalidInputError, match="only completed trials"):
        retraining_plan(job, [pruned], store_of(database))
    going = bench.create(plan, database)
    with database.read() as session, pytest.raises(ConflictError, match="is queued"):
        retraining_plan(jobs.get(session, going), picks, store_of(database))
    database.close()


def test_a_finalists_training_has_as_much_more_time_as_it_has_more_steps(bench: Bench) -> None:
    plan, database = bench.plan(limits={"trial_timeout": 60}), bench.open()
    given = dict[str, float]()
    bench.work(
        bench.create(plan, database), plan, database=database,
        pause=lambda work: given.update({work.key: work.timeout_s}),
    )  # fmt: skip
    steps = {key.split("/")[2]: seconds for key, seconds in given.items() if key.startswith("train")}
    assert steps == {"8": 60.0, "12": 90.0}
    assert {seconds for key, seconds in given.items() if key.startswith("measure")} == {60.0}
    database.close()


def test_the_search_seed_is_not_among_the_finalists(bench: Bench) -> None:
    """Also where the budgets are equal and its training stands in the database."""
    plan = bench.plan(finalists={"count": 1, "seeds": 2, "steps": 8}, budget={"trials": 4})
    database = bench.open()
    job_id = bench.create(plan, database)
    done = bench.work(job_id, plan, database=database).done
    assert {key.split("/")[-1] for key in done if key.startswith("train")} >= {"8"}
    with database.read() as session:
        finalist = next(one for one in trials.all_trials(session, job_id) if one.final and one.number >= 0)
    folder = database.data_dir / "training" / finalist.training_id / "8"
    assert {path.name for path in folder.iterdir()} == {"0", "1", "2"}
    database.close()
