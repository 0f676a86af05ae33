import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable

import pytest

from search.records import JobRecord
from search.storage import jobs, trials
from search.storage.check import check
from search.storage.database import Database
from space.architecture import Architecture
from space.errors import ConflictError


def submit(database: Database, name: str = "a search") -> str:
    with database.write() as session:
        return jobs.create(session, name=name, spec={}, objectives=["error", "latency_s"], now=1000.0).id


def test_the_oldest_waiting_job_is_claimed_first(db: Database) -> None:
    first, second = submit(db), submit(db)
    with db.write() as session:
        claimed = jobs.claim(session, "a", 15.0, 2000.0)
        assert claimed is not None
        assert (claimed.id, claimed.state, claimed.fence) == (first, "running", 1)
        assert (claimed.lease_owner, claimed.lease_until) == ("a", 2015.0)
        again = jobs.claim(session, "a", 15.0, 2000.0)
        assert again is not None
        assert again.id == second
        assert jobs.claim(session, "b", 15.0, 2014.9) is None


def test_g2_a_lease_that_ran_out_is_claimed_with_a_higher_fence(db: Database, running_job: JobRecord) -> None:
    with db.write() as session:
        assert jobs.claim(session, "b", 15.0, 1014.9) is None
        claimed = jobs.claim(session, "b", 15.0, 1015.0)
    assert claimed is not None
    assert (claimed.id, claimed.fence, claimed.lease_owner) == (running_job.id, 2, "b")
    assert claimed.started_at == running_job.started_at


def test_a_job_that_the_caller_still_works_on_is_not_claimed_again(db: Database) -> None:
    mine, other = submit(db), submit(db)
    with db.write() as session:
        jobs.claim(session, "a", 15.0, 2000.0)
    with db.write() as session:
        claimed = jobs.claim(session, "a", 15.0, 2100.0, besides=[mine])
        assert claimed is not None
        assert claimed.id == other
        assert jobs.claim(session, "a", 15.0, 2100.0, besides=[mine, other]) is None


def test_a_beat_keeps_the_lease_alive_and_brings_the_users_wish(db: Database, running_job: JobRecord) -> None:
    with db.write() as session:
        assert jobs.beat(session, running_job.id, running_job.fence, 15.0, 1010.0).lease_until == 1025.0
        assert jobs.claim(session, "b", 15.0, 1020.0) is None
        jobs.request(session, running_job.id, "pause")
        assert jobs.beat(session, running_job.id, running_job.fence, 15.0, 1012.0).state == "paused"


def test_a_paused_job_is_not_claimed_but_a_stopping_one_is(db: Database, running_job: JobRecord) -> None:
    with db.write() as session:
        jobs.request(session, running_job.id, "pause")
        assert jobs.claim(session, "b", 15.0, 9000.0) is None
        jobs.request(session, running_job.id, "stop")
        claimed = jobs.claim(session, "b", 15.0, 9000.0)
    assert claimed is not None
    assert claimed.state == "stopping"


def test_taking_a_job_that_is_held_needs_force(db: Database, running_job: JobRecord) -> None:
    with pytest.raises(ConflictError, match="held by me for 5 s more"), db.write() as session:
        jobs.take(session, running_job.id, "b", 15.0, 1010.0)
    with db.write() as session:
        taken = jobs.take(session, running_job.id, "b", 15.0, 1010.0, force=True)
    assert (taken.lease_owner, taken.fence) == ("b", 2)
    with pytest.raises(ConflictError, match="old"), db.write() as session:
        jobs.beat(session, running_job.id, running_job.fence, 15.0, 1011.0)


def test_a_released_job_waits_for_resume_and_its_trials_keep_their_attempts(
    db: Database, running_job: JobRecord, architecture_of: Callable[[int], Architecture]
) -> None:
    job = running_job
    with db.write() as session:
        trials.create(session, job.id, job.fence, number=0, origin="random", architecture=architecture_of(0))
        trials.set_state(session, job.id, 0, job.fence, "running")
        released = jobs.release(session, job.id, job.fence, reason="user", now=1005.0)
        assert (released.state, released.reason, released.lease_owner) == ("paused", "user", None)
        trial = trials.get(session, job.id, 0)
        assert (trial.state, trial.attempt) == ("waiting", 0)
    with pytest.raises(ConflictError, match="given back"), db.write() as session:
        trials.set_state(session, job.id, 0, job.fence, "running")
    assert check(db) == []
    with db.write() as session:
        taken = jobs.take(session, job.id, "b", 15.0, 1006.0)
    assert (taken.state, taken.reason, taken.fence) == ("running", None, 2)


def test_a_service_that_shuts_down_puts_its_job_back_into_the_queue(
    db: Database, running_job: JobRecord
) -> None:
    with db.write() as session:
        assert jobs.release(session, running_job.id, running_job.fence, "queued").state == "queued"
        claimed = jobs.claim(session, "b", 15.0, 1001.0)
    assert claimed is not None
    assert claimed.fence == 2


def test_a_stopping_job_stays_stopping_when_released(db: Database, running_job: JobRecord) -> None:
    with db.write() as session:
        jobs.request(session, running_job.id, "stop")
        assert jobs.release(session, running_job.id, running_job.fence).state == "stopping"


def test_g2_trials_of_a_dead_coordinator_wait_again_with_one_more_attempt(
    db: Database, running_job: JobRecord, architecture_of: Callable[[int], Architecture]
) -> None:
    job = running_job
    with db.write() as session:
        for number in range(3):
            trials.create(
                session, job.id, 1, number=number, origin="random", architecture=architecture_of(number)
            )
        for number in (0, 2):
            trials.set_state(session, job.id, number, 1, "running")
    with db.write() as session:
        claimed = jobs.claim(session, "b", 15.0, 2000.0)
        assert claimed is not None
        waiting = trials.requeue_running(session, job.id, claimed.fence)
        assert [(trial.number, trial.state, trial.attempt) for trial in waiting] == [
            (0, "waiting", 1),
            (2, "waiting", 1),
        ]
        assert trials.requeue_running(session, job.id, claimed.fence) == []
    assert check(db) == []


@pytest.mark.slow
def test_f08_processes_that_claim_at_once_never_get_the_same_job(db: Database) -> None:
    made = [submit(db, f"job {number}") for number in range(24)]
    url = db.url_shown if db.dialect == "sqlite" else db._engine.url.render_as_string(hide_password=False)
    program = textwrap.dedent(
        f"""
        from search.storage.database import Database
        from search.storage import jobs
        database = Database.open({url!r})
        while True:
            with database.write() as session:
                job = jobs.claim(session, "racer", 3600.0)
            if job is None:
                break
            print(job.id, job.fence)
        """
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    claims = Counter(line for racer in racers for line in racer.communicate(timeout=60)[0].splitlines())
    assert claims == Counter(f"{job_id} 1" for job_id in made)
    assert check(db) == []
