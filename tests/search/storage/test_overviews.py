import doctest
from collections.abc import Callable

import pytest

from search.records import Final, JobRecord
from search.storage import jobs, overviews, trials
from search.storage.database import Database
from search.storage.overviews import dots, ended_trials, sample
from space.architecture import Architecture
from space.errors import InvalidInputError, NotFoundError

ArchitectureOf = Callable[[int], Architecture]


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(overviews).failed == 0


@pytest.fixture
def job(db: Database, running_job: JobRecord, architecture_of: ArchitectureOf) -> JobRecord:
    """Two references and ten trials; 3 has failed, 9 waits without a latency."""
    quality, latency = running_job.objectives
    with db.write() as session:
        for place, number in enumerate((-2, -1, *range(10))):
            trials.create(
                session, running_job.id, running_job.fence, number=number, origin="random",
                architecture=architecture_of(place),
            )  # fmt: skip
            values = {quality: 2.0 + number / 10} | ({} if number == 9 else {latency: 1e-3 * (20 - number)})
            trials.record(
                session, running_job.id, number, running_job.fence, values=values, kinds={latency: "measured"}
            )
            if number == 3:
                trials.set_state(
                    session, running_job.id, number, running_job.fence, "failed", reason="timeout"
                )
            elif number != 9:
                trials.complete(session, running_job.id, number, running_job.fence)
    return running_job


def test_dots_are_every_trial_by_number(db: Database, job: JobRecord) -> None:
    with db.read() as session:
        found = dots(session, job.id, job.objectives[1])
        rows = trials.all_trials(session, job.id)
    assert [dot.number for dot in found] == [row.number for row in rows]
    assert [dot.value for dot in found] == [row.values.get(job.objectives[1]) for row in rows]
    assert [dot.on_front for dot in found] == [row.on_front for row in rows]
    assert [dot.state for dot in found] == [row.state for row in rows]


def test_a_finalists_dot_is_its_final_value_in_the_final_stage(db: Database, job: JobRecord) -> None:
    quality = job.objectives[0]
    with db.write() as session:
        trials.set_final(session, job.id, 4, job.fence, Final(3, 100, {quality: 1.5}, {}, {}))
        before = {dot.number: dot.value for dot in dots(session, job.id, quality)}
        jobs.set_stage(session, job.id, job.fence, "final")
        after = {dot.number: dot.value for dot in dots(session, job.id, quality)}
    assert (before[4], after[4]) == (2.4, 1.5)
    assert before[5] == after[5] == 2.5


def test_a_sample_has_the_fronts_the_references_and_the_ends(db: Database, job: JobRecord) -> None:
    with db.read() as session:
        everything = trials.all_trials(session, job.id)
        assert overviews.count(session, job.id) == len(everything) == 12
        assert sample(session, job.id, 100) == everything
        front = {row.number for row in everything if row.on_front or row.number < 0}
        few = [row.number for row in sample(session, job.id, len(front) + 1)]
        assert front < set(few)
        assert len(few) == len(front) + 1
        assert len(sample(session, job.id, 3)) == 3


def test_ended_trials_leave_out_references_and_what_waits(db: Database, job: JobRecord) -> None:
    with db.read() as session:
        assert ended_trials(session, [job.id, "f" * 32]) == {job.id: 9, "f" * 32: 0}
        assert ended_trials(session, []) == {}


def test_unknown_jobs_and_quantities_are_refused(db: Database, job: JobRecord) -> None:
    with db.read() as session:
        with pytest.raises(InvalidInputError, match="latency_s"):
            dots(session, job.id, "latenc_s")
        for ask in (lambda: dots(session, "0" * 32, "params"), lambda: sample(session, "0" * 32, 5)):
            with pytest.raises(NotFoundError):
                ask()
