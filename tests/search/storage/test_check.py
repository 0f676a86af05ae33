"""The checker is itself checked: every fault it should find is planted once."""

import re
from collections.abc import Callable

import pytest
from sqlalchemy import text

from search.records import JobRecord
from search.storage import jobs, trials
from search.storage.check import check
from search.storage.database import Database
from space.architecture import Architecture


@pytest.fixture
def completed(
    sqlite: Database, sqlite_job: JobRecord, architecture_of: Callable[[int], Architecture]
) -> JobRecord:
    """A completed job with its budget of two trials and a reference; trial 1 dominates trial 0."""
    job = sqlite_job
    with sqlite.write() as session:
        for number in (-1, 0, 1):
            trials.create(
                session, job.id, 1, number=number, origin="random", architecture=architecture_of(number + 1)
            )
            values = {"bits_per_byte": 3.0 - number, "latency_s": 0.001}
            trials.record(session, job.id, number, 1, values=values, kinds={"latency_s": "measured"})
            trials.complete(session, job.id, number, 1)
        return jobs.set_state(session, job.id, "completed", fence=1, reason="budget_reached")


def test_a_sound_database_has_no_faults(sqlite: Database, completed: JobRecord) -> None:
    assert check(sqlite) == []


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("UPDATE trials SET on_front = 1 WHERE number = 0", r"I5 search front is \[0, 1\], should be \[1\]"),
        ("UPDATE trials SET on_front = 0 WHERE number = -1", r"I5 reference front is \[\], should be \[-1\]"),
        (
            "UPDATE trials SET state = 'running', ended_at = NULL WHERE number = 0",
            "I1 completed, but trial 0",
        ),
        ("UPDATE trials SET state = 'running' WHERE number = 0", "I4 trial 0 is running without a lease"),
        ("UPDATE trials SET number = 5 WHERE number = 1", "I3 trial numbers have gaps"),
        ("DELETE FROM trials WHERE number = 1", "I2 budget_reached with 1 trials of 2"),
        ("UPDATE jobs SET reason = NULL", "I2 completed without a reason"),
        ("UPDATE jobs SET lease_owner = 'x'", "I1 completed, but leased to x"),
        ("UPDATE jobs SET ended_at = NULL", "I1 state completed, ended at None"),
        (
            "UPDATE jobs SET state = 'running', lease_owner = 'x', ended_at = NULL",
            "I1 the job is running and has ended",
        ),
        ("DELETE FROM events WHERE seq = 3", "I3 .* events, the newest"),
        ("UPDATE events SET data = '{\"state\":\"pruned\"}' WHERE kind = 'trial.created'", None),
        (
            "UPDATE events SET kind = 'trial.state', data = '{\"state\":\"failed\"}' "
            "WHERE kind = 'trial.created'",
            "I3 trial 0 is completed and has ended 2 times",
        ),
        ("UPDATE trials SET state = 'failed' WHERE number = 0", "I3 trial 0 failed without a reason"),
    ],
)
def test_planted_faults_are_found(
    sqlite: Database, completed: JobRecord, damage: str, fault: str | None
) -> None:
    with sqlite.write() as session:
        session.execute(text(damage.replace(":", r"\:")))
    faults = "\n".join(check(sqlite))
    if fault is None:
        assert faults == ""
    else:
        assert re.search(fault, faults), faults


def test_rows_that_refer_to_nothing_are_found(sqlite: Database, completed: JobRecord) -> None:
    with sqlite.read() as session:
        session.connection().exec_driver_sql("COMMIT")
        session.connection().exec_driver_sql("PRAGMA foreign_keys=OFF")
        session.connection().exec_driver_sql("DELETE FROM architectures")
        session.connection().exec_driver_sql("PRAGMA foreign_keys=ON")
        session.connection().exec_driver_sql("BEGIN")
    assert any("a row of trials refers to a missing row of architectures" in fault for fault in check(sqlite))
