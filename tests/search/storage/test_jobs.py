import itertools
from collections.abc import Callable

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search.records import FINAL_JOB_STATES, JOB_TRANSITIONS, JobRecord
from search.storage import events, jobs, trials
from search.storage.check import check
from search.storage.database import Database
from search.storage.models import Audit, Event, Job, Trial
from space.architecture import Architecture
from space.errors import ConflictError, InvalidInputError, NotFoundError

SPEC = {"budget": {"trials": 1}, "name": "\ud800 = <b>\x00"}


def submit(
    database: Database, name: str = "a search", *, job_id: str | None = None, tenant: str = "local"
) -> JobRecord:
    with database.write() as session:
        return jobs.create(
            session,
            name=name,
            spec=SPEC,
            objectives=["error", "latency_s"],
            now=1000.0,
            job_id=job_id,
            tenant=tenant,
        )


def test_a_job_comes_back_as_it_was_stored(db: Database) -> None:
    stored = submit(db)
    assert stored.state == "queued"
    assert stored.spec == SPEC
    assert stored.objectives == ("error", "latency_s")
    assert (stored.fence, stored.version, stored.stage, stored.counters) == (0, 1, "search", {})
    with db.read() as session:
        assert jobs.get(session, stored.id) == stored
    assert check(db) == []


def test_a_job_can_be_created_already_leased(running_job: JobRecord) -> None:
    assert (running_job.state, running_job.lease_owner, running_job.fence) == ("running", "me", 1)
    assert running_job.lease_until == 1015.0
    assert running_job.started_at is not None


def test_f26_creation_with_an_id_can_be_repeated(db: Database) -> None:
    first = submit(db, job_id="1" * 32)
    assert submit(db, job_id="1" * 32) == first
    with pytest.raises(ConflictError, match="another content"):
        submit(db, "another name", job_id="1" * 32)


@pytest.mark.parametrize("objectives", [[], ["latency"], ["error", "error"], ["quality"], ["error"] * 5])
def test_objectives_are_resolved_keys(sqlite: Database, objectives: list[str]) -> None:
    with pytest.raises(InvalidInputError, match="objective"), sqlite.write() as session:
        jobs.create(session, name="x", spec={}, objectives=objectives)


def test_ids_resolve_from_unique_beginnings(db: Database) -> None:
    a, b = submit(db, job_id="abcd1" + "0" * 27), submit(db, job_id="abcd2" + "0" * 27)
    with db.read() as session:
        assert jobs.resolve(session, "abcd1") == a
        assert jobs.resolve(session, b.id.upper()) == b
        with pytest.raises(InvalidInputError, match="several ids"):
            jobs.resolve(session, "abcd")
        with pytest.raises(InvalidInputError, match="at least 4"):
            jobs.resolve(session, "abc")
        for missing in ("ffff", "%bcd", "../x", "", "\x00"):
            with pytest.raises(NotFoundError, match="does not exist"):
                jobs.resolve(session, missing)
        with pytest.raises(NotFoundError):
            jobs.resolve(session, "abcd1", tenant="other")


def test_listing_is_newest_first_in_pages(db: Database) -> None:
    made = [submit(db, f"job {number}").id for number in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    with db.read() as session:
        while True:
            page = jobs.list_jobs(session, tenant="local", limit=3, cursor=cursor)
            seen += [job.id for job in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
    assert seen == made[::-1]


def test_listing_filters_by_tenant_state_and_literal_part_of_the_name(db: Database) -> None:
    submit(db, "100% Sure_thing")
    submit(db, "1000 surething")
    submit(db, "100% sure_thing of somebody else", tenant="other")
    with db.read() as session:
        found = jobs.list_jobs(session, tenant="local", query="% sure_").items
        assert [job.name for job in found] == ["100% Sure_thing"]
        assert len(jobs.list_jobs(session, tenant="local", state="queued").items) == 2
        assert jobs.list_jobs(session, tenant="local", state="failed").items == []
        assert jobs.counts(session, "local")["queued"] == 2
        assert jobs.counts(session, "local")["failed"] == 0
        with pytest.raises(InvalidInputError, match="did you mean 'queued'"):
            jobs.list_jobs(session, tenant="local", state="queud")
        for limit in (0, -1, 1001):
            with pytest.raises(InvalidInputError, match="limit"):
                jobs.list_jobs(session, tenant="local", limit=limit)


@pytest.mark.parametrize(
    "cursor", ["", "x", "W10", "WzEsMl0", "WyJhIl0", "W251bGxd", "'; DROP TABLE jobs; --", "é", "W1tdXQ"]
)
def test_a12_cursors_that_are_not_ours_are_refused(sqlite: Database, cursor: str) -> None:
    with sqlite.read() as session, pytest.raises(InvalidInputError, match="cursor"):
        jobs.list_jobs(session, tenant="local", cursor=cursor)


def test_a18_other_tenants_jobs_do_not_exist(db: Database) -> None:
    job = submit(db, tenant="a")
    actions: tuple[Callable[[Session], object], ...] = (
        lambda session: jobs.get(session, job.id, tenant="b"),
        lambda session: jobs.request(session, job.id, "cancel", tenant="b"),
        lambda session: jobs.rename(session, job.id, "mine", tenant="b"),
        lambda session: jobs.delete(session, job.id, tenant="b"),
        lambda session: jobs.get(session, "no such id", tenant="b"),
    )
    for action in actions:
        with pytest.raises(NotFoundError, match="does not exist"), db.write() as session:
            action(session)


STATES = [*JOB_TRANSITIONS, *sorted(FINAL_JOB_STATES)]
ASKED = {"pause": "paused", "resume": "running", "stop": "stopping", "cancel": "cancelled"}
ANSWERS = {
    ("queued", "resume"): "queued",
    ("queued", "stop"): "cancelled",
    ("queued", "pause"): None,
    ("stopping", "resume"): None,
    ("stopping", "pause"): None,
}


def test_f61_what_users_ask_for_in_every_state(db: Database) -> None:
    for state, action in itertools.product(STATES, ASKED):
        job = submit(db)
        with db.write() as session:
            session.scalars(select(Job).where(Job.id == job.id)).one().state = state
        is_possible = state not in FINAL_JOB_STATES or ASKED[action] == state
        expected = ANSWERS.get((state, action), ASKED[action] if is_possible else None)
        if expected is None:
            with pytest.raises(ConflictError, match=f"is {state} and"), db.write() as session:
                jobs.request(session, job.id, action)  # type: ignore[arg-type]
            continue
        with db.write() as session:
            assert jobs.request(session, job.id, action).state == expected  # type: ignore[arg-type]
            newest = events.last_seq(session, job.id)
            if expected == ASKED[action]:  # the same wish again changes nothing
                assert jobs.request(session, job.id, action).state == expected  # type: ignore[arg-type]
                assert events.last_seq(session, job.id) == newest


def test_f59_cancelling_ends_the_job_its_lease_and_its_trials_at_once(
    db: Database, running_job: JobRecord, architecture_of: Callable[[int], Architecture]
) -> None:
    job = running_job
    with db.write() as session:
        for number in range(3):
            trials.create(
                session,
                job.id,
                job.fence,
                number=number,
                origin="random",
                architecture=architecture_of(number),
            )
        trials.complete(session, job.id, 0, job.fence)
        trials.set_state(session, job.id, 1, job.fence, "running")
    with db.write() as session:
        ended = jobs.request(session, job.id, "cancel")
    assert (ended.state, ended.reason, ended.lease_owner) == ("cancelled", "user", None)
    assert ended.ended_at is not None
    with db.read() as session:
        assert [trial.state for trial in trials.all_trials(session, job.id)] == [
            "completed",
            "cancelled",
            "cancelled",
        ]
    with (
        db.write() as session
    ):  # the coordinator learns it from its next beat, and may end its trials once more
        assert jobs.beat(session, job.id, job.fence, 15.0).state == "cancelled"
        assert trials.set_state(session, job.id, 1, job.fence, "cancelled").state == "cancelled"
    with pytest.raises(ConflictError, match="the job is cancelled"), db.write() as session:
        trials.complete(session, job.id, 2, job.fence)
    assert check(db) == []


def test_f26_an_end_that_is_repeated_because_its_answer_was_lost_changes_nothing(
    db: Database, running_job: JobRecord
) -> None:
    job = running_job
    with db.write() as session:
        ended = jobs.set_state(session, job.id, "completed", fence=job.fence, reason="user")
    with db.write() as session:
        assert jobs.set_state(session, job.id, "completed", fence=job.fence, reason="user") == ended
    with db.write() as session, pytest.raises(ConflictError):
        jobs.set_state(session, job.id, "completed", fence=job.fence - 1)
    with db.read() as session:
        assert jobs.get(session, job.id) == ended


def test_ended_jobs_do_not_change(db: Database, running_job: JobRecord) -> None:
    job = running_job
    with db.write() as session:
        jobs.set_state(session, job.id, "completed", fence=job.fence, reason="user")
    with db.read() as session:
        before = jobs.get(session, job.id)
    writes: tuple[Callable[[Session], object], ...] = (
        lambda session: jobs.set_state(session, job.id, "failed", fence=job.fence),
        lambda session: jobs.set_state(session, job.id, "running"),
        lambda session: jobs.update_context(session, job.id, job.fence, {"a": 1}),
        lambda session: jobs.add_counters(session, job.id, job.fence, proposed=1),
        lambda session: jobs.set_indicators(session, job.id, job.fence, {}),
        lambda session: jobs.set_stage(session, job.id, job.fence, "final"),
        lambda session: jobs.release(session, job.id, job.fence),
        lambda session: jobs.take(session, job.id, "other", 15.0, force=True),
    )
    for write in writes:
        with pytest.raises(ConflictError, match="completed"), db.write() as session:
            write(session)
    with db.read() as session:
        assert jobs.get(session, job.id) == before


def test_the_coordinator_writes_context_counters_and_indicators(db: Database, running_job: JobRecord) -> None:
    job = running_job
    with db.write() as session:
        jobs.update_context(session, job.id, job.fence, {"data_digest": "x", "floors": [4.5, 3.0]})
        jobs.update_context(session, job.id, job.fence, {"floors": (4.4,)})
        jobs.add_counters(session, job.id, job.fence, proposed=3, duplicates=1)
        jobs.add_counters(session, job.id, job.fence, proposed=2)
        jobs.set_indicators(session, job.id, job.fence, {"hypervolume": 0.5})
        jobs.set_indicators(session, job.id, job.fence, {"hypervolume": 0.5})
        stored = jobs.get(session, job.id)
        kinds = [event.kind for event in events.after(session, job.id)]
    assert stored.context == {"data_digest": "x", "floors": [4.4]}
    assert stored.counters == {"proposed": 5, "duplicates": 1}
    assert stored.indicators == {"hypervolume": 0.5}
    assert kinds == ["job.state", "job.state", "indicators.changed"]
    with pytest.raises(InvalidInputError, match="hypervolume=nan"), db.write() as session:
        jobs.set_indicators(session, job.id, job.fence, {"hypervolume": float("nan")})


def test_reasons_come_from_the_closed_list_and_messages_are_storable(
    db: Database, running_job: JobRecord
) -> None:
    job = running_job
    with pytest.raises(InvalidInputError, match="did you mean 'disk_full'"), db.write() as session:
        jobs.set_state(session, job.id, "failed", fence=job.fence, reason="disk_ful")
    with db.write() as session:
        ended = jobs.set_state(
            session, job.id, "failed", fence=job.fence, reason="internal", message="a\x00b\ud800" + "x" * 9000
        )
    assert ended.message is not None
    assert ended.message.startswith("ab\\ud800x")
    assert len(ended.message) == 2000


def test_the_same_state_again_renews_only_the_reason(db: Database, running_job: JobRecord) -> None:
    job = running_job
    with db.write() as session:
        waiting = jobs.set_state(session, job.id, "running", fence=job.fence, reason="waiting_for_workers")
        assert events.last_seq(session, job.id) == 2
    assert (waiting.state, waiting.reason, waiting.version) == (
        "running",
        "waiting_for_workers",
        job.version + 1,
    )


def test_a27_the_second_of_two_renames_of_one_version_loses(db: Database) -> None:
    job = submit(db)
    with db.write() as session:
        renamed = jobs.rename(session, job.id, "better", version=job.version)
    assert (renamed.name, renamed.version) == ("better", job.version + 1)
    with pytest.raises(ConflictError, match="version"), db.write() as session:
        jobs.rename(session, job.id, "best", version=job.version)
    for name in ("", "x" * 201, "a\nb", "\x00"):
        with pytest.raises(InvalidInputError, match="printable"), db.write() as session:
            jobs.rename(session, job.id, name)


def test_f63_only_ended_jobs_are_deleted_with_all_that_is_theirs(
    db: Database, running_job: JobRecord, architecture_of: Callable[[int], Architecture]
) -> None:
    job = running_job
    other = submit(db, "other")
    with db.write() as session:
        trials.create(session, job.id, job.fence, number=0, origin="random", architecture=architecture_of(0))
    with pytest.raises(ConflictError, match="cancel it"), db.write() as session:
        jobs.delete(session, job.id)
    with db.write() as session:
        jobs.request(session, job.id, "cancel")
        assert jobs.delete(session, job.id) == []
    with db.read() as session:
        assert session.scalar(select(func.count()).select_from(Trial)) == 0
        assert [event.job_id for event in session.scalars(select(Event))] == [other.id]
    assert check(db) == []


def test_a32_i3_an_old_fence_is_refused_and_kept_in_the_audit(db: Database, running_job: JobRecord) -> None:
    job = running_job
    with db.write() as session:
        assert jobs.claim(session, "other", 15.0, 1016.0) is not None
    with pytest.raises(ConflictError, match="fence 1 is old, the current one is 2"), db.write() as session:
        jobs.add_counters(session, job.id, job.fence, proposed=1)
    with db.write() as session, pytest.raises(ConflictError):  # also when the caller goes on
        jobs.update_context(session, job.id, job.fence, {"a": 1})
    with db.read() as session:
        assert jobs.get(session, job.id).counters == {}
        refused = [
            (row.job_id, row.action, row.fence_given, row.fence_current)
            for row in session.scalars(select(Audit))
        ]
    assert refused == [(job.id, "add_counters", 1, 2), (job.id, "update_context", 1, 2)]
