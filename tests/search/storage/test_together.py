"""Writes that PostgreSQL gets as one statement are the same writes, and may come late."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import event, text

from search.records import JobRecord, TrialRecord
from search.storage import events, trials
from search.storage.check import check
from search.storage.database import Database
from search.storage.together import write_in_turn, write_together
from search.storage.trials import Numbers
from space.architecture import Architecture
from space.errors import UnavailableError

ArchitectureOf = Callable[[int], Architecture]
NewJob = Callable[[Database], JobRecord]
KINDS = {"latency_s": "measured", "bits_per_byte": "measured"}


def wait_for_a_lock(db: Database) -> None:
    """Until a transaction of this database waits for another one; the server has other tests' as well."""
    waits = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    while True:
        with db.read() as session:
            if session.scalar(waits):
                return
        time.sleep(0.01)


def worked(db: Database, job: JobRecord, architecture_of: ArchitectureOf) -> list[TrialRecord]:
    """Every way of writing a trial."""
    with db.write() as session:
        for number, (quality, latency) in enumerate([(2.0, 1e-3), (3.0, 2e-3), (1.0, 3e-3), (1.5, 5e-4)]):
            known = Numbers(values={"latency_s": 9e-3}, kinds={"latency_s": "predicted"})
            trials.create(
                session, job.id, job.fence, number=number, origin="random", now=1000.0 + number,
                architecture=architecture_of(number), known=known if number % 2 else None,
            )  # fmt: skip
            trials.set_state(session, job.id, number, job.fence, "running", now=1100.0)
            found = Numbers(values={"latency_s": latency, "bits_per_byte": quality}, kinds=KINDS, rung=1)
            trials.count_trial(session, job.id, number, job.fence, found, now=1200.0)
        trials.record(session, job.id, 0, job.fence, values={"bits_per_byte": 9.0}, now=1300.0)
        trials.create(
            session, job.id, job.fence, number=4, origin="random", architecture=architecture_of(0), now=1.0
        )
        trials.set_state(session, job.id, 4, job.fence, "running", now=1400.0)
        trials.requeue(session, job.id, 4, job.fence, now=1400.0)
        return trials.all_trials(session, job.id)


def test_together_is_the_same_as_in_turn(
    postgresql: Database,
    new_running_job: NewJob,
    architecture_of: ArchitectureOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for way in (write_together, write_in_turn):
        monkeypatch.setattr("search.storage.fences.write_together", way)
        job = new_running_job(postgresql)
        rows = [replace(row, job_id="") for row in worked(postgresql, job, architecture_of)]
        with postgresql.read() as session:
            told = [(one.seq, one.kind, one.trial, one.data) for one in events.after(session, job.id, 2)]
        found.append((rows, told))
    assert found[0] == found[1]
    assert [row.number for row in found[0][0] if row.on_front] == [2, 3]
    assert check(postgresql) == []


def test_a_trial_takes_two_statements_and_its_end_three(
    postgresql: Database, new_running_job: NewJob, architecture_of: ArchitectureOf
) -> None:
    job, statements = new_running_job(postgresql), []
    with postgresql.write() as session:
        event.listen(session.connection(), "before_cursor_execute", lambda *told: statements.append(told[2]))
        trials.create(session, job.id, job.fence, number=0, origin="random", architecture=architecture_of(0))
        assert len(statements) == 2
        numbers = Numbers(values={"latency_s": 1.0, "bits_per_byte": 1.0}, kinds=KINDS)
        trials.count_trial(session, job.id, 0, job.fence, numbers)
        assert len(statements) == 5


def test_f26_a_trial_that_was_just_being_stored_is_found_by_the_next_attempt(
    postgresql: Database, new_running_job: NewJob, architecture_of: ArchitectureOf
) -> None:
    """An earlier attempt, whose connection was lost, still holds the job's row as it is repeated."""
    job = new_running_job(postgresql)
    refused: list[UnavailableError] = []
    found: list[TrialRecord] = []

    def create(db: Database) -> TrialRecord:
        with db.write() as session:
            return trials.create(
                session, job.id, job.fence, number=0, origin="random", architecture=architecture_of(0)
            )

    def repeat() -> None:
        try:
            create(postgresql)
        except UnavailableError as error:
            refused.append(error)
        found.append(create(postgresql))

    with postgresql.write() as session:
        trials.create(session, job.id, job.fence, number=0, origin="random", architecture=architecture_of(0))
        repeating = threading.Thread(target=repeat)
        repeating.start()
        wait_for_a_lock(postgresql)
    repeating.join()
    assert "just being stored; try again" in str(refused[0])
    assert found[0].number == 0
    with postgresql.read() as session:
        assert [one.kind for one in events.after(session, job.id, 2)] == ["trial.created"]
    assert check(postgresql) == []
