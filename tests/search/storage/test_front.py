import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from search.records import JobRecord
from search.storage import events, jobs, trials
from search.storage.check import check
from search.storage.database import Database
from search.storage.front import front_numbers
from space.architecture import Architecture
from space.errors import ConflictError

ArchitectureOf = Callable[[int], Architecture]
KINDS = {"latency_s": "measured"}
Cloud = list[tuple[float, ...]]


def brute_force(cloud: Cloud) -> set[int]:
    """The definition: nobody is no worse everywhere and better somewhere, or equal with a lower number."""
    return {
        j
        for j, b in enumerate(cloud)
        if not any(
            all(x <= y for x, y in zip(a, b, strict=True)) and (a != b or i < j)
            for i, a in enumerate(cloud)
            if i != j
        )
    }


levels = st.sampled_from([1.0, 2.0, 3.0, 1e-30, 1e30])  # few values, so that ties and duplicates happen
clouds = st.integers(1, 4).flatmap(lambda k: st.lists(st.tuples(*[levels] * k), max_size=30))


@given(clouds)
def test_the_quick_front_is_the_front_of_the_definition(cloud: Cloud) -> None:
    assert front_numbers(dict(enumerate(cloud))) == brute_force(cloud)


def count(database: Database, job: JobRecord, number: int, values: dict[str, float]) -> None:
    """One transaction of the coordinator: numbers in, trial counted."""
    with database.write() as session:
        trials.record(session, job.id, number, job.fence, values=values, kinds=KINDS)
        trials.complete(session, job.id, number, job.fence)


def lease(database: Database, objectives: list[str]) -> JobRecord:
    with database.write() as session:
        lease = ("me", time.time() + 600.0)
        return jobs.create(session, name="x", spec={}, objectives=objectives, lease=lease)


def propose(database: Database, job: JobRecord, number: int, architecture: Architecture) -> None:
    with database.write() as session:
        trials.create(session, job.id, job.fence, number=number, origin="random", architecture=architecture)


@pytest.mark.parametrize("objectives", [["loss", "latency_s"], ["loss", "latency_s", "params"], ["loss"]])
@pytest.mark.parametrize("seed", [0, 1])
def test_f54_i5_after_every_count_the_flags_are_the_front_in_any_order_of_arrival(
    db: Database, architecture_of: ArchitectureOf, objectives: list[str], seed: int
) -> None:
    rng = random.Random(seed)
    job = lease(db, objectives)
    size = 14
    cloud = [tuple(float(rng.randint(1, 4)) for _ in objectives) for _ in range(size)]
    for number in range(size):
        propose(db, job, number, architecture_of(number))
    counted: list[int] = []
    for number in rng.sample(range(size), size):
        count(db, job, number, dict(zip(objectives, cloud[number], strict=True)))
        counted = sorted([*counted, number])
        with db.read() as session:
            flagged = {trial.number for trial in trials.front(session, job.id)}
        assert flagged == {counted[i] for i in brute_force([cloud[j] for j in counted])}
    assert check(db) == []


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cloud=st.lists(st.tuples(levels, levels), min_size=1, max_size=6), seed=st.integers(0, 100))
def test_i5_holds_for_ties_at_extreme_values(
    sqlite: Database, architecture_of: ArchitectureOf, cloud: Cloud, seed: int
) -> None:
    job = lease(sqlite, ["loss", "latency_s"])
    for number in range(len(cloud)):
        propose(sqlite, job, number, architecture_of(number))
    for number in random.Random(seed).sample(range(len(cloud)), len(cloud)):
        count(sqlite, job, number, {"loss": cloud[number][0], "latency_s": cloud[number][1]})
    with sqlite.read() as session:
        assert {trial.number for trial in trials.front(session, job.id)} == brute_force(cloud)


def test_f53_of_equal_trials_the_lowest_number_stays_whatever_the_order(
    db: Database, architecture_of: ArchitectureOf
) -> None:
    for order in itertools.permutations(range(3)):
        job = lease(db, ["loss", "latency_s"])
        for number in range(3):
            propose(db, job, number, architecture_of(number))
        for number in order:
            count(db, job, number, {"loss": 1.0, "latency_s": 0.1 + 0.2})
        with db.read() as session:
            assert [trial.number for trial in trials.front(session, job.id)] == [0]
    assert check(db) == []


def test_the_front_is_sorted_by_latency_and_says_who_came_and_went(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf
) -> None:
    job = running_job
    cloud = [(3.0, 0.002), (4.0, 0.001), (5.0, 0.005), (2.9, 0.002)]
    for number, (bits, latency) in enumerate(cloud):
        propose(db, job, number, architecture_of(number))
        count(db, job, number, {"bits_per_byte": bits, "latency_s": latency})
    with db.read() as session:
        assert [trial.number for trial in trials.front(session, job.id)] == [1, 3]
        changes = [event.data for event in events.after(session, job.id) if event.kind == "front.changed"]
    assert changes == [
        {"group": "search", "joined": [0], "left": []},
        {"group": "search", "joined": [1], "left": []},
        {"group": "search", "joined": [3], "left": [0]},
    ]


def test_references_have_a_front_of_their_own(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf
) -> None:
    job = running_job
    for number, bits in ((-1, 2.0), (-2, 2.5), (0, 3.0)):
        propose(db, job, number, architecture_of(number + 2))
        count(db, job, number, {"bits_per_byte": bits, "latency_s": 0.001})
    with db.read() as session:
        assert [trial.number for trial in trials.front(session, job.id, "search")] == [0]
        assert [trial.number for trial in trials.front(session, job.id, "reference")] == [-1]
    assert check(db) == []


def test_only_measured_latency_and_complete_vectors_count(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf
) -> None:
    job = running_job
    propose(db, job, 0, architecture_of(0))
    with db.write() as session:
        values = {"bits_per_byte": 3.0, "latency_s": 0.001}
        trials.record(session, job.id, 0, 1, values=values, kinds={"latency_s": "predicted"})
        trials.complete(session, job.id, 0, 1)
        assert trials.front(session, job.id) == []
        assert check(db) == []
        trials.record(session, job.id, 0, 1, values={"latency_s": 0.0012}, kinds=KINDS)
        assert [trial.number for trial in trials.front(session, job.id)] == [0]
    propose(db, job, 1, architecture_of(1))
    with db.write() as session:
        trials.record(session, job.id, 1, 1, values={"bits_per_byte": 1.0})
        trials.complete(session, job.id, 1, 1)
        assert [trial.number for trial in trials.front(session, job.id)] == [0]
    assert check(db) == []


def test_a_new_value_of_a_counted_trial_moves_the_whole_front(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf
) -> None:
    job = running_job
    for number, latency in enumerate((0.001, 0.002, 0.003)):
        propose(db, job, number, architecture_of(number))
        count(db, job, number, {"bits_per_byte": 3.0, "latency_s": latency})
    with db.write() as session:  # measured again: the fastest was a mistake
        trials.record(session, job.id, 0, 1, values={"latency_s": 0.0025})
        assert [trial.number for trial in trials.front(session, job.id)] == [1]
        trials.record(session, job.id, 0, 1, values={}, kinds={"latency_s": "predicted"})
        assert [trial.number for trial in trials.front(session, job.id)] == [1]
    assert check(db) == []


def test_i3_a_result_is_counted_once_and_not_under_an_old_fence(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf
) -> None:
    job = running_job
    propose(db, job, 0, architecture_of(0))
    count(db, job, 0, {"bits_per_byte": 3.0, "latency_s": 0.001})
    count(db, job, 0, {"bits_per_byte": 3.0, "latency_s": 0.001})
    with db.write() as session:
        assert jobs.claim(session, "b", 15.0, 2000.0) is not None
    with pytest.raises(ConflictError, match="old"):
        count(db, job, 0, {"bits_per_byte": 1.0, "latency_s": 0.001})
    with db.read() as session:
        ends = [event for event in events.after(session, job.id) if event.data.get("state") == "completed"]
        assert len(ends) == 1
        assert trials.get(session, job.id, 0).values["bits_per_byte"] == 3.0
    assert check(db) == []


def test_f06_counting_and_flagging_are_one_transaction(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf
) -> None:
    job = running_job
    propose(db, job, 0, architecture_of(0))

    def die_after_counting() -> None:
        with db.write() as session:
            trials.record(
                session, job.id, 0, 1, values={"bits_per_byte": 3.0, "latency_s": 0.001}, kinds=KINDS
            )
            trials.complete(session, job.id, 0, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die_after_counting()
    with db.read() as session:
        assert trials.get(session, job.id, 0).state == "waiting"
        assert trials.front(session, job.id) == []
    assert check(db) == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda session, job: trials.front(session, job.id),
        lambda session, job: trials.list_trials(session, job.id),
        lambda session, job: trials.list_trials(session, job.id, state="completed"),
        lambda session, job: events.after(session, job.id, 7),
        lambda session, job: events.last_seq(session, job.id),
        lambda session, job: jobs.list_jobs(session, tenant="local"),
        lambda session, job: jobs.list_jobs(session, tenant="local", state="running"),
        lambda session, job: jobs.claim(session, "somebody", 15.0),
    ],
    ids=["front", "trials", "completed trials", "events", "last event", "jobs", "running jobs", "claim"],
)
def test_f36_what_is_asked_often_is_answered_by_an_index(
    db: Database, running_job: JobRecord, ask: Callable[[Session, JobRecord], object]
) -> None:
    """PostgreSQL reads small tables whole, so it is told to do so only where nothing else is possible."""
    asked: list[tuple[str, Any]] = []
    with db.write() as session:
        connection = session.connection()

        def keep(_one: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
            asked.append((statement, parameters))

        event.listen(connection, "before_cursor_execute", keep)
        ask(session, running_job)
        event.remove(connection, "before_cursor_execute", keep)
        if db.dialect == "postgresql":
            session.execute(text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN" if db.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
        for statement, parameters in asked:
            rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
            plan = [str(row[-1]).strip() for row in rows]
            assert not [line for line in plan if is_whole(line)], (statement, plan)
    assert asked


def is_whole(line: str) -> bool:
    """Whether a line of a plan reads a whole table."""
    return "Seq Scan" in line or (line.startswith("SCAN") and "USING" not in line and "CONSTANT" not in line)
