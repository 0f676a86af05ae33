import doctest
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from search.records import Final, JobRecord
from search.storage import events, jobs, overviews, trials
from search.storage.database import Database
from search.storage.overviews import dots, ended_trials, sample
from search.tally import endings_of, tally_of
from space.architecture import Architecture, parse_architecture
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


RUNGS = (5, 10)


@pytest.fixture
def grown(db: Database, job: JobRecord) -> JobRecord:
    """With parents, steps, a finalist and two warnings."""
    with db.write() as session:
        for number, parents in ((10, [7]), (11, [2, 7]), (12, [70, 17])):
            with_parents = trials.create(
                session, job.id, job.fence, number=number, origin="mutation", parents=parents,
                architecture=trials_architecture(session, job, number - 10),
            )  # fmt: skip
            trials.record(session, job.id, number, job.fence, values={"params": 1e5}, steps=number - 3)
            assert with_parents.parents == tuple(parents)
        trials.set_final(session, job.id, 4, job.fence, Final(3, 100, {job.objectives[0]: 1.5}, {}, {}))
        for message in ("first", "second", "first"):
            events.append(session, job.id, "warning", data={"message": message})
    return job


def trials_architecture(session: Session, job: JobRecord, number: int) -> Architecture:
    return parse_architecture(dict(trials.get(session, job.id, number).architecture))


def test_a_tally_counts_what_its_definition_counts(db: Database, grown: JobRecord) -> None:
    with db.read() as session:
        rows = trials.all_trials(session, grown.id)
        found = overviews.tally(session, grown.id, RUNGS)
    assert found == tally_of(rows, RUNGS)
    assert (found.total, found.references, found.retrained) == (13, 2, 1)
    assert found.reached == (3, 0)
    assert [one.label for one in found.failed] == ["3"]


def test_an_empty_job_has_an_empty_tally(db: Database, running_job: JobRecord) -> None:
    with db.read() as session:
        assert overviews.tally(session, running_job.id, RUNGS) == tally_of([], RUNGS)


def test_endings_are_those_of_the_definition(db: Database, grown: JobRecord) -> None:
    with db.read() as session:
        rows = trials.all_trials(session, grown.id)
        assert overviews.endings(session, grown.id) == endings_of(rows, grown.objectives)


@pytest.mark.parametrize("keys", [("latency_s", "bits_per_byte"), ("params", "bits_per_byte")])
def test_a_plane_has_every_ended_trial_with_both_numbers(
    db: Database, grown: JobRecord, keys: tuple[str, str]
) -> None:
    x, y = keys
    with db.read() as session:
        rows = trials.all_trials(session, grown.id)
        found = overviews.plane(session, grown.id, x, y)
    known = [one for one in rows if one.number >= 0 and one.state in ("completed", "pruned")]
    known = [one for one in known if {x, y} <= set(one.values)]
    assert found.number.tolist() == [one.number for one in known]
    assert found.x.tolist() == [one.values[x] for one in known]
    assert found.y.tolist() == [one.values[y] for one in known]
    assert found.on_front.tolist() == [one.on_front for one in known]
    assert found.completed.all()


def test_kin_are_the_front_the_parents_and_the_children(db: Database, grown: JobRecord) -> None:
    with db.read() as session:
        rows = trials.all_trials(session, grown.id)
        found = overviews.kin(session, grown.id, trials.get(session, grown.id, 7))
    front = {one.number for one in rows if one.number >= 0 and one.on_front}
    assert {one.number for one in found} == {*front, 7, 10, 11}


def test_notable_trials_are_fronts_references_and_finalists(db: Database, grown: JobRecord) -> None:
    with db.read() as session:
        rows = trials.all_trials(session, grown.id)
        found = overviews.notable(session, grown.id)
    assert sorted(found) == [one.number for one in rows if one.on_front or one.number < 0 or one.final]


def test_completed_trials_are_taken_evenly(db: Database, job: JobRecord) -> None:
    with db.read() as session:
        every = overviews.spread_completed(session, job.id, 100)
        some = overviews.spread_completed(session, job.id, 4)
    assert [one.number for one in every] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert [one.number for one in some] == [0, 2, 4, 6, 8]


def test_warnings_come_once_and_in_order(db: Database, grown: JobRecord) -> None:
    with db.read() as session:
        assert overviews.warnings(session, grown.id) == ["first", "second"]


def test_bounds_leave_what_lies_inside_them(db: Database, job: JobRecord) -> None:
    """By an objective and by the number; references have no place in the order of the search."""
    quality, latency = job.objectives
    within = ((latency, 0.0125, 0.0175), ("number", 4.0, None))
    with db.read() as session:
        rows = trials.all_trials(session, job.id)
        found = overviews.inside(session, job.id, within)
        counts = overviews.tally(session, job.id, [100], within)
        spread = overviews.spread_completed(session, job.id, 100, within)
        half = overviews.inside(session, job.id, ((quality, None, 2.25),))
        with pytest.raises(InvalidInputError, match="unknown quantity"):
            overviews.inside(session, job.id, (("nothing", 0.0, 1.0),))
    admitted = [
        one
        for one in rows
        if 0.0125 <= one.values.get(latency, 0) <= 0.0175 and (one.number >= 4 or one.number < 0)
    ]
    assert found.tolist() == [4, 5, 6, 7] == [one.number for one in admitted]
    assert counts == tally_of(admitted, [100])
    assert [one.number for one in spread] == [4, 5, 6, 7]
    assert half.tolist() == [0, 1, 2]
