import json
from collections.abc import Callable

import pytest

from search.records import Final, JobRecord, Spread
from search.storage import architectures, events, jobs, trials
from search.storage.check import check
from search.storage.database import Database
from space.architecture import Architecture
from space.errors import ConflictError, InvalidInputError, NotFoundError

ArchitectureOf = Callable[[int], Architecture]
MEASURED = {"latency_s": "measured", "bits_per_byte": "measured"}


def propose(db: Database, job: JobRecord, number: int, architecture: Architecture) -> None:
    with db.write() as session:
        origin = "reference" if number < 0 else "random"
        trials.create(session, job.id, job.fence, number=number, origin=origin, architecture=architecture)  # type: ignore[arg-type]


def test_a_trial_comes_back_as_it_was_stored(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf
) -> None:
    job, architecture = running_job, architecture_of(0)
    with db.write() as session:
        stored = trials.create(
            session, job.id, job.fence, number=0, origin="mutation", parents=(-1, 7),
            note="wider \x00layer 2", asked_after=2, architecture=architecture, now=1003.5,
        )  # fmt: skip
    assert (stored.state, stored.attempt, stored.rung, stored.steps) == ("waiting", 0, 0, 0)
    assert (stored.parents, stored.note, stored.asked_after) == ((-1, 7), "wider layer 2", 2)
    assert (stored.architecture_id, stored.training_id) == (architecture.id, architecture.training_id)
    assert stored.architecture_id != stored.training_id  # int8 layers train as fp32
    assert stored.architecture == json.loads(architecture.canonical_json)
    assert stored.created_at.timestamp() == 1003.5
    with db.read() as session:
        assert trials.get(session, job.id, 0) == stored
        assert architectures.get(session, architecture.id, tenant="local") == stored.architecture
        newest = events.after(session, job.id, 2)
    assert [(event.kind, event.trial) for event in newest] == [("trial.created", 0)]
    assert newest[0].data == {"architecture_id": architecture.id, "origin": "mutation"}


def test_f26_creation_can_be_repeated_but_not_with_another_architecture(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf
) -> None:
    propose(db, running_job, 0, architecture_of(0))
    propose(db, running_job, 0, architecture_of(0))
    with pytest.raises(ConflictError, match="another architecture"):
        propose(db, running_job, 0, architecture_of(1))
    with db.read() as session:
        assert len(trials.all_trials(session, running_job.id)) == 1
        assert events.last_seq(session, running_job.id) == 3
    assert check(db) == []


def test_missing_trials_and_architectures_are_not_found(sqlite: Database, sqlite_job: JobRecord) -> None:
    with sqlite.write() as session:
        for look in (
            lambda: trials.get(session, sqlite_job.id, 0),
            lambda: trials.get(session, "nothing", 0),
            lambda: trials.complete(session, sqlite_job.id, 5, 1),
            lambda: trials.all_trials(session, "nothing"),
            lambda: trials.front(session, "nothing"),
            lambda: trials.list_trials(session, "nothing"),
            lambda: architectures.get(session, "nothing", tenant="local"),
        ):
            with pytest.raises(NotFoundError, match="does not exist"):
                look()


def test_numbers_are_merged_and_a_new_value_drops_the_old_spread(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf
) -> None:
    job = running_job
    propose(db, job, 0, architecture_of(0))
    with db.write() as session:
        trials.record(
            session, job.id, 0, job.fence,
            values={"params": 1234, "latency_s": 0.002},
            spread={"latency_s": Spread(0.001, 0.003, 20)},
            kinds={"params": "computed", "latency_s": "predicted"},
        )  # fmt: skip
        stored = trials.record(
            session, job.id, 0, job.fence, values={"latency_s": 0.0021, "bits_per_byte": 3.5}, kinds=MEASURED,
            flags=["noisy", "contended", "noisy"], rung=1, steps=75,
        )  # fmt: skip
    assert stored.values == {"params": 1234.0, "latency_s": 0.0021, "bits_per_byte": 3.5}
    assert stored.spread == {}
    assert stored.kinds == {"params": "computed", **MEASURED}
    assert (stored.flags, stored.rung, stored.steps) == (("contended", "noisy"), 1, 75)
    with db.write() as session:
        before = events.last_seq(session, job.id)
        assert trials.record(session, job.id, 0, job.fence, values={"bits_per_byte": 3.5}) == stored
        assert events.last_seq(session, job.id) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bits_per_byte", float("nan")),
        ("anything", float("inf")),
        ("latency_s", 0.0),
        ("latency_s", -0.001),
        ("params", 0),
        ("error", 1.01),
        ("error", -0.1),
        ("loss", -1e-9),
    ],
)
def test_a33_absurd_numbers_are_refused_and_nothing_changes(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf, key: str, value: float
) -> None:
    job = running_job
    propose(db, job, 0, architecture_of(0))
    with db.write() as session:
        with pytest.raises(InvalidInputError, match=key):
            trials.record(session, job.id, 0, job.fence, values={"macs": 5.0, key: value})
        final = Final(3, 100, {key: value}, {}, {})
        with pytest.raises(InvalidInputError, match=key):
            trials.set_final(session, job.id, 0, job.fence, final)
        assert trials.get(session, job.id, 0).values == {}


def test_a_spread_is_finite(sqlite: Database, sqlite_job: JobRecord, architecture_of: ArchitectureOf) -> None:
    propose(sqlite, sqlite_job, 0, architecture_of(0))
    spread = {"latency_s": Spread(0.1, float("inf"), 3)}
    with pytest.raises(InvalidInputError, match="not finite"), sqlite.write() as session:
        trials.record(session, sqlite_job.id, 0, 1, values={"latency_s": 0.2}, spread=spread)


def test_failures_name_a_reason_of_the_closed_list(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf
) -> None:
    job = running_job
    propose(db, job, 0, architecture_of(0))
    with pytest.raises(InvalidInputError, match="did you mean 'out_of_memory'"), db.write() as session:
        trials.set_state(session, job.id, 0, job.fence, "failed", reason="out_of_memori")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="reason"), db.write() as session:
        trials.set_state(session, job.id, 0, job.fence, "failed")
    with db.write() as session:
        trials.set_state(session, job.id, 0, job.fence, "running")
        failed = trials.set_state(
            session,
            job.id,
            0,
            job.fence,
            "failed",
            reason="diverged",
            message="loss is nan at step 12",
            now=1009.0,
        )
    assert (failed.state, failed.reason, failed.message) == ("failed", "diverged", "loss is nan at step 12")
    assert failed.ended_at is not None
    assert failed.ended_at.timestamp() == 1009.0
    assert check(db) == []


@pytest.mark.parametrize("end", ["completed", "pruned", "failed", "cancelled"])
def test_i1_an_ended_trial_does_not_move(
    sqlite: Database, sqlite_job: JobRecord, architecture_of: ArchitectureOf, end: str
) -> None:
    propose(sqlite, sqlite_job, 0, architecture_of(0))
    with sqlite.write() as session:
        trials.set_state(session, sqlite_job.id, 0, 1, end, reason="internal")  # type: ignore[arg-type]
    for state in ("waiting", "running", "completed", "pruned", "failed", "cancelled"):
        if state == end:
            continue
        with (
            pytest.raises(ConflictError, match=f"is {end} and cannot become {state}"),
            sqlite.write() as session,
        ):
            trials.set_state(session, sqlite_job.id, 0, 1, state, reason="internal")
    with sqlite.write() as session:
        before = events.last_seq(session, sqlite_job.id)
        trials.set_state(session, sqlite_job.id, 0, 1, end, reason="internal")  # type: ignore[arg-type]
        assert events.last_seq(session, sqlite_job.id) == before
    assert check(sqlite) == []


@pytest.fixture
def cloud(db: Database, running_job: JobRecord, architecture_of: ArchitectureOf) -> JobRecord:
    """Eleven trials and two references; latency grows with the number, every third has none."""
    for number in range(-2, 11):
        propose(db, running_job, number, architecture_of(number + 2))
        with db.write() as session:
            values = {"bits_per_byte": 5.0 - number / 10, "params": 1e6 + (number * 7) % 5}
            if number % 3:
                values["latency_s"] = 1e-3 * (1 + abs(number) // 2)
            trials.record(session, running_job.id, number, 1, values=values, kinds=MEASURED)
            if number % 2:
                trials.complete(session, running_job.id, number, 1)
    return running_job


def pages(db: Database, job: JobRecord, limit: int, **options: object) -> list[int]:
    seen: list[int] = []
    cursor: str | None = None
    with db.read() as session:
        while True:
            page = trials.list_trials(session, job.id, cursor=cursor, limit=limit, **options)  # type: ignore[arg-type]
            seen += [trial.number for trial in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return seen


def test_pages_follow_the_order_without_gap_or_repeat(db: Database, cloud: JobRecord) -> None:
    with db.read() as session:
        known = {trial.number: trial for trial in trials.all_trials(session, cloud.id) if trial.number >= 0}

    def expected(key: str, sign: int) -> list[int]:
        def place(number: int) -> tuple[bool, float, int]:
            value = number if key == "number" else known[number].values.get(key)
            return (value is None, 0.0 if value is None else sign * value, number)

        return sorted(known, key=place)

    for key in ("number", "bits_per_byte", "latency_s", "params", "macs"):
        for limit in (1, 4, 100):
            assert pages(db, cloud, limit, sort=key) == expected(key, 1)
            assert pages(db, cloud, limit, sort="-" + key) == expected(key, -1)


def test_listing_filters_by_group_state_and_flag(db: Database, cloud: JobRecord) -> None:
    assert pages(db, cloud, 5, group="reference") == [-2, -1]
    assert pages(db, cloud, 5, group="all") == list(range(-2, 11))
    assert pages(db, cloud, 5, state="completed") == [1, 3, 5, 7, 9]
    flagged = [number for number in (1, 3, 5, 7, 9) if number in pages(db, cloud, 5, on_front=True)]
    assert flagged == pages(db, cloud, 5, on_front=True) != []
    assert sorted(flagged + pages(db, cloud, 5, on_front=False)) == list(range(11))


@pytest.mark.parametrize(
    "options",
    [
        {"sort": "values"},
        {"sort": "number; DROP TABLE trials"},
        {"sort": "--number"},
        {"group": "refs"},
        {"state": "complete"},
        {"cursor": "W1tdLDFd"},
        {"cursor": "WzFd"},
        {"cursor": "WyJhIiwxXQ"},
        {"limit": 0},
    ],
)
def test_a12_what_is_not_in_the_closed_lists_is_refused(
    sqlite: Database, sqlite_job: JobRecord, options: dict[str, object]
) -> None:
    with sqlite.read() as session, pytest.raises(InvalidInputError):
        trials.list_trials(session, sqlite_job.id, **options)  # type: ignore[arg-type]


def test_final_numbers_count_from_the_final_stage_on(
    db: Database, running_job: JobRecord, architecture_of: ArchitectureOf
) -> None:
    job = running_job
    for number, (bits, latency) in enumerate([(3.0, 0.002), (3.2, 0.001), (3.1, 0.004)]):
        propose(db, job, number, architecture_of(number))
        with db.write() as session:
            values = {"bits_per_byte": bits, "latency_s": latency}
            trials.record(session, job.id, number, 1, values=values, kinds=MEASURED)
            trials.complete(session, job.id, number, 1)
    final = Final(
        seeds=3, steps=2000, values={"bits_per_byte": 2.5, "latency_s": 0.0009},
        spread={"bits_per_byte": Spread(2.4, 2.6, 3)}, test={"bits_per_byte": 2.7},
    )  # fmt: skip
    with db.write() as session:
        stored = trials.set_final(session, job.id, 1, 1, final)
        assert stored.final == final
        assert [trial.number for trial in trials.front(session, job.id)] == [1, 0]
    assert check(db) == []
    with db.write() as session:
        assert jobs.set_stage(session, job.id, 1, "final").stage == "final"
        front = trials.front(session, job.id)
        assert [trial.number for trial in front] == [1]
        assert front[0].effective == {"bits_per_byte": 2.5, "latency_s": 0.0009}
        assert front[0].seeds == 3
        assert trials.restate_front(session, job.id, 1) == front
    assert check(db) == []
    with db.write() as session:  # a finalist's numbers that come after the change move the front at once
        trials.set_final(session, job.id, 2, 1, Final(1, 2000, {"bits_per_byte": 2.4}, {}, {}))
        assert [trial.number for trial in trials.front(session, job.id)] == [1, 2]
    assert check(db) == []
