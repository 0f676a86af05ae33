"""Gate G9 of faults.md in what can be counted: what a round costs does not grow with the job's history.

    round = ask a strategy, store the new trial, store its numbers with the front's

Counted are statements, what the database looks at for them, calls of Python functions and bytes held;
`benchmarks.gates_engine` has the times.
"""

import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Connection, event, text

from evaluators.protocol import Measurement
from search.clock import Clock
from search.history import MOST_TOLD, History, told_by_definition
from search.job import StrategyKind, parse_job
from search.ledger import Ledger
from search.plan import JobPlan, plan_job
from search.proposer import Proposer
from search.running import owner_name
from search.storage import jobs
from search.storage.check import check
from search.storage.database import Database
from search.strategies import make_strategy
from tests.scale import big_job

if TYPE_CHECKING:
    from .conftest import Bench
else:
    Bench = Any

FEW, MANY = 500, 5000
ROUNDS = 6
STRATEGIES: tuple[StrategyKind, ...] = ("random", "nsga2", "regularized_evolution")
BYTES_PER_TRIAL = 10_240


@dataclass(slots=True)
class Effort:
    """What some rounds have cost."""

    statements: int = 0
    looked_at: int = 0
    """Steps of SQLite's machine, or rows that PostgreSQL has read."""
    calls: int = 0


@pytest.fixture(scope="module")
def plan() -> JobPlan:
    return plan_job(parse_job({"budget": {"trials": 1_000_000}, "finalists": {"count": 0}}))


def taken(database: Database, num_trials: int, plan: JobPlan) -> tuple[Ledger, History]:
    """A job of so many trials, as a coordinator that takes it up knows it."""
    job_id = big_job(database, num_trials, until="running").id
    with database.write() as session:
        session.execute(text("ANALYZE"))  # PostgreSQL does it by itself within a minute or so
    return held(database, job_id, plan)


def held(database: Database, job_id: str, plan: JobPlan) -> tuple[Ledger, History]:
    with database.write() as session:
        job = jobs.take(session, job_id, owner_name(), 15.0, database.now(), force=True)
    ledger = Ledger(database, job, plan, Clock())
    return ledger, History(ledger)


def rows_read(connection: Connection) -> int:
    """By this connection of PostgreSQL, since it last told its statistics: never within a transaction."""
    cursor = connection.connection.cursor()  # past SQLAlchemy: it is no statement of a round
    cursor.execute("SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables")
    (rows,) = cursor.fetchone() or (0,)
    cursor.close()
    return int(rows)


@contextmanager
def counting(database: Database) -> Iterator[Effort]:
    effort = Effort()
    watched = set[Any]()

    def step() -> None:
        effort.looked_at += 1

    def begun(_: Any, cursor: Any, *rest: Any) -> None:
        effort.statements += 1
        if database.dialect == "sqlite" and cursor.connection not in watched:
            watched.add(cursor.connection)
            cursor.connection.set_progress_handler(step, 1)

    def begins(connection: Connection) -> None:
        effort.looked_at -= rows_read(connection)

    def ends(connection: Connection) -> None:
        effort.looked_at += rows_read(connection)

    event.listen(database._engine, "before_cursor_execute", begun)
    if database.dialect == "postgresql":
        event.listen(database._engine, "begin", begins)
        event.listen(database._engine, "commit", ends)
        event.listen(database._engine, "rollback", ends)
    try:
        yield effort
    finally:
        event.remove(database._engine, "before_cursor_execute", begun)
        if database.dialect == "postgresql":
            event.remove(database._engine, "begin", begins)
            event.remove(database._engine, "commit", ends)
            event.remove(database._engine, "rollback", ends)
        for connection in watched:
            connection.set_progress_handler(None, 1)


@contextmanager
def counting_calls(effort: Effort) -> Iterator[None]:
    def called(_: Any, what: str, __: Any) -> None:
        effort.calls += what in ("call", "c_call")

    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(None)


def play(
    ledger: Ledger, history: History, plan: JobPlan, kind: StrategyKind, rounds: int, *, joins: bool
) -> None:
    """Rounds whose trials are all behind the front, or all join it and displace nobody."""
    strategy = make_strategy(kind, plan.space, 0, plan.objectives, batch_size=1, tokens=128)
    proposer = Proposer(strategy, plan.space, seed=0, budget=10**9, limits={}, batch_size=1, tokens=128)
    for _ in range(rounds):
        number = ledger.num_search
        (proposal,) = proposer.candidates(number, 1, history.told(), [], known=history.ids).proposals
        trial = ledger.create_trial(
            number, proposal.architecture, origin=proposal.origin, parents=proposal.parents,
            asked_after=ledger.job.version, known={},
        )  # fmt: skip
        bits, seconds = (10.0 + number, 1e-6 / number) if joins else (9.0, 1.0)
        ledger.complete(
            trial,
            {
                "bits_per_byte": Measurement("bits_per_byte", bits, "bits", "measured"),
                "latency_s": Measurement("latency_s", seconds, "s", "measured"),
            },
        )
        assert ledger.trials[number].on_front == joins


@pytest.mark.slow
def test_g9_a_round_costs_the_same_after_ten_times_as_many_trials(any_bench: Bench, plan: JobPlan) -> None:
    """Joining the front is told in SQL alone: the job's indicators are computed from all trials then."""
    database = any_bench.open()
    found: dict[tuple[str, int], Effort] = {}
    for num_trials in (FEW, MANY):
        ledger, history = taken(database, num_trials, plan)
        history.told()
        for kind in STRATEGIES:
            with counting(database) as found[kind, num_trials], counting_calls(found[kind, num_trials]):
                play(ledger, history, plan, kind, ROUNDS, joins=False)
        with counting(database) as found["joins", num_trials]:
            play(ledger, history, plan, "random", 1, joins=True)
    for what in (*STRATEGIES, "joins"):
        few, many = found[what, FEW], found[what, MANY]
        assert few.statements == many.statements > 0, what
        assert 0 < many.looked_at < few.looked_at + MANY - FEW, f"{what}: all trials are looked through"
        assert many.calls <= few.calls + ROUNDS * (MANY - FEW), (
            f"{what}: every round walks through all trials"
        )
    again, reopened = held(database, ledger.job.id, plan)
    assert reopened.told() == history.told() == told_by_definition(again)
    assert reopened.ids == history.ids
    assert (again.trials, again.front_numbers) == (ledger.trials, ledger.front_numbers)
    assert len(history.told()) >= MOST_TOLD
    assert check(database) == []
    database.close()


@pytest.mark.slow
def test_g9_a_further_trial_takes_ten_kilobytes(bench: Bench, plan: JobPlan) -> None:
    """What a coordinator holds of a job; the database is elsewhere."""
    database = bench.open()
    sizes = {}
    for num_trials in (FEW, MANY):
        job_id = big_job(database, num_trials, until="running").id
        tracemalloc.start()
        try:
            ledger, history = held(database, job_id, plan)
            assert len(history.told()) <= num_trials == ledger.num_search
            sizes[num_trials], _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    database.close()
    assert 0 < (sizes[MANY] - sizes[FEW]) / (MANY - FEW) <= BYTES_PER_TRIAL
