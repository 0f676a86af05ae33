"""Backups put back, details removed, gauges read, places told apart, invariants checked."""

import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from search.clock import Clock
from search.housekeeping import tidy
from search.records import JobRecord
from search.retention import prune
from search.storage import artefacts, events, gauges, jobs, logs, trials
from search.storage.check import check
from search.storage.database import Database
from search.storage.places import file_system
from search.storage.restore import _check_unused, restore
from space.architecture import Architecture
from space.errors import ConflictError, InvalidInputError

DAY = 86_400.0


def ended_job(
    database: Database, architecture_of: Callable[[int], Architecture], name: str = "a"
) -> JobRecord:
    """Two trials, the second better in everything; the job ended at 1,000 s."""
    with database.write() as session:
        job = jobs.create(
            session, name=name, spec={"budget": {"trials": 2}}, objectives=["bits_per_byte", "latency_s"],
            now=900.0, lease=("me", 915.0),
        )  # fmt: skip
        for number in (0, 1):
            trials.create(
                session, job.id, 1, number=number, origin="random", architecture=architecture_of(number)
            )
            values: Mapping[str, Any] = {"bits_per_byte": 3.0 - number, "latency_s": 0.001}
            trials.record(session, job.id, number, 1, values=values, kinds={"latency_s": "measured"})
            trials.complete(session, job.id, number, 1, now=950.0)
            line = {"at": 1.0, "level": "info", "text": "work began"}
            logs.put(session, job.id, number, "train/x", 0, [line])
            logs.put(session, job.id, number, "train/x", 0, [line])
        return jobs.set_state(session, job.id, "completed", fence=1, reason="budget_reached", now=1000.0)


def test_f39_a_backup_is_checked_and_put_back_and_the_old_database_stays(
    sqlite: Database, tmp_path: Path, architecture_of: Callable[[int], Architecture]
) -> None:
    job = ended_job(sqlite, architecture_of)
    sqlite.backup(tmp_path / "copy.db")
    assert sqlite.file is not None
    with sqlite.write() as session:
        jobs.rename(session, job.id, "changed since")
    with pytest.raises(ConflictError, match="--force"):
        restore(tmp_path / "copy.db", sqlite.file)
    with pytest.raises(ConflictError, match="open in another process"):
        restore(tmp_path / "copy.db", sqlite.file, force=True)
    sqlite.close()
    aside = restore(tmp_path / "copy.db", sqlite.file, force=True)
    assert aside is not None
    for file, name in ((sqlite.file, "a"), (aside, "changed since")):
        database = Database.open(file)
        with database.read() as session:
            assert jobs.get(session, job.id).name == name
        assert check(database) == []
        database.close()
    assert restore(tmp_path / "copy.db", tmp_path / "new.db") is None
    assert not list(tmp_path.glob(".*restore*"))


def test_f39_every_kind_of_busy_is_an_open_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Recovering:  # another process reads the log of one that was killed: a moment nobody can hold
        def execute(self, statement: str) -> None:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY
            raise error

        def close(self) -> None:
            pass

    monkeypatch.setattr(sqlite3, "connect", lambda *given, **rest: Recovering())
    with pytest.raises(ConflictError, match="open in another process"):
        _check_unused(tmp_path / "jobs.db")


def test_f39_a_backup_with_faults_replaces_nothing(
    sqlite: Database, tmp_path: Path, architecture_of: Callable[[int], Architecture]
) -> None:
    ended_job(sqlite, architecture_of)
    sqlite.backup(tmp_path / "copy.db")
    connection = sqlite3.connect(tmp_path / "copy.db")
    connection.execute("UPDATE trials SET on_front = 1")
    connection.commit()
    connection.close()
    with pytest.raises(InvalidInputError, match="I5"):
        restore(tmp_path / "copy.db", tmp_path / "new.db")
    (tmp_path / "half.db").write_bytes((tmp_path / "copy.db").read_bytes()[:9000])
    with pytest.raises(InvalidInputError):
        restore(tmp_path / "half.db", tmp_path / "new.db")
    with pytest.raises(InvalidInputError, match="does not exist"):
        restore(tmp_path / "nothing.db", tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
    assert not list(tmp_path.glob(".*restore*"))


def test_f37_old_details_go_and_the_front_keeps_everything(
    db: Database, architecture_of: Callable[[int], Architecture]
) -> None:
    job = ended_job(db, architecture_of)
    trainings = [architecture_of(number).training_id for number in (0, 1)]
    for name in (*trainings, "f" * 32):
        place = db.data_dir / "training" / name / "mark" / "0" / "8"
        place.mkdir(parents=True, exist_ok=True)
        (place / "state.json").write_text("{}")
    now = 1000.0 + 31 * DAY
    would = prune(db, 30 * DAY, now, dry_run=True)
    removed = prune(db, 30 * DAY, now)
    assert would == removed
    assert (removed.jobs, removed.logs, removed.checkpoints) == (1, 1, 1)
    assert not (db.data_dir / "training" / trainings[0]).exists()
    assert (db.data_dir / "training" / trainings[1]).exists()
    assert (db.data_dir / "training" / ("f" * 32)).exists(), "unknown names are not ours to remove"
    with db.read() as session:
        left = {event.trial for event in events.after(session, job.id) if event.kind == "trial.state"}
        assert left == {1}
        assert [row.number for row in trials.all_trials(session, job.id)] == [0, 1]
        assert (logs.of_trial(session, job.id, 0), len(logs.of_trial(session, job.id, 1))) == ([], 1)
    assert check(db) == []
    assert prune(db, 30 * DAY, now).jobs == 0


def test_f37_a_teacher_goes_with_the_last_of_its_jobs(sqlite: Database) -> None:
    teachers = sqlite.data_dir / "training" / "teachers"
    for name, ended in (("old", 100.0), ("shared", 100.0), ("shared", 900.0)):
        with sqlite.write() as session:
            job = jobs.create(
                session, name=name, spec={"budget": {"trials": 2}}, objectives=["error"], now=50.0,
                lease=("me", 65.0), context={"own_teacher": {"digest": name}},
            )  # fmt: skip
            jobs.set_state(session, job.id, "completed", fence=1, reason="budget_reached", now=ended)
    for name, made in (("old", 50.0), ("shared", 50.0), ("of a job that is being created", 990.0)):
        (teachers / name / "1").mkdir(parents=True)
        os.utime(teachers / name, (made, made))
    assert prune(sqlite, 500.0, 1000.0).checkpoints == 1
    assert sorted(path.name for path in teachers.iterdir()) == ["of a job that is being created", "shared"]


def test_f37_a_teacher_in_the_shared_store_goes_from_there(sqlite: Database, tmp_path: Path) -> None:
    sqlite.data_url = f"file://{tmp_path / 'shared'}"
    with sqlite.write() as session:
        job = jobs.create(
            session, name="a", spec={"budget": {"trials": 2}}, objectives=["error"], now=50.0,
            lease=("me", 65.0), context={"own_teacher": {"digest": "old"}},
        )  # fmt: skip
        jobs.set_state(session, job.id, "completed", fence=1, reason="budget_reached", now=100.0)
    for name in ("old", "of a job that is being created"):
        (tmp_path / "shared" / "training" / "teachers" / name / "1").mkdir(parents=True)
    prune(sqlite, 500.0, 1000.0)
    left = (tmp_path / "shared" / "training" / "teachers").iterdir()
    assert [path.name for path in left] == ["of a job that is being created"]


def test_f37_jobs_that_go_on_or_ended_lately_keep_their_details(
    sqlite: Database, architecture_of: Callable[[int], Architecture]
) -> None:
    ended_job(sqlite, architecture_of)
    assert prune(sqlite, 30 * DAY, 1000.0 + 29 * DAY).jobs == 0


def test_i8_strays_of_dead_writers_go_and_living_ones_stay(
    sqlite: Database, architecture_of: Callable[[int], Architecture]
) -> None:
    job = ended_job(sqlite, architecture_of)
    with sqlite.write() as session:
        kept = artefacts.create(session, job_id=job.id, trial=1, request={})
        written = artefacts.create(session, job_id=job.id, trial=1, request={"n": 2})
        artefacts.claim_queued(session, "me")
    folder = sqlite.data_dir / "exports"
    with sqlite.read() as session:
        states = artefacts.states(session, [kept.id, written.id])
    running = next(key for key, state in states.items() if state == "running")
    names = [f"{running}.draft", "0123.draft", "4567", kept.id]
    for name in names:
        (folder / name).mkdir(parents=True)
    draft = sqlite.data_dir / "training" / "t" / "m" / "0" / ".draft-1"
    draft.mkdir(parents=True)
    assert tidy(sqlite, Clock()) == [], "too young to be anybody's leftovers"

    class Later(Clock):
        def time(self) -> float:
            return time.time() + 3600

    gone = {path.name for path in tidy(sqlite, Later())}
    assert gone == {"0123.draft", "4567", ".draft-1"}
    assert {path.name for path in folder.iterdir()} == {f"{running}.draft", kept.id}


def test_gauges_count_jobs_trials_leases_and_refusals(
    db: Database, architecture_of: Callable[[int], Architecture]
) -> None:
    ended_job(db, architecture_of)
    with db.write() as session:
        jobs.create(session, name="b", spec={}, objectives=["error"], tenant="x", now=1.0, lease=("a", 50.0))
        held = jobs.create(
            session, name="c", spec={}, objectives=["error"], tenant="y", now=1.0, lease=("a", 500.0)
        )
        jobs.set_state(session, held.id, "paused", fence=held.fence, reason="disk_full", now=2.0)
    with db.read() as session:
        found = gauges.read(session, 100.0)
    assert (found.jobs["completed"], found.jobs["running"], found.jobs["paused"]) == (1, 1, 1)
    assert found.reasons == {"executor_unavailable": 0, "waiting_for_workers": 0, "disk_full": 1}
    assert found.leases == {"held": 1, "expired": 1}
    assert sum(found.trials.values()) == 0
    assert found.refused_writes == 0


def test_f32_a_network_file_system_is_recognised_by_its_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"a / ext4 rw 0 0\nb {tmp_path}/net nfs4 rw 0 0\nc {tmp_path}/net/disk xfs rw 0 0\n")
    kinds = [file_system(tmp_path / name, mounts) for name in ("a.db", "net/a.db", "net/disk/a.db")]
    assert [(kind.name, kind.is_network) for kind in kinds if kind] == [
        ("ext4", False), ("nfs4", True), ("xfs", False),
    ]  # fmt: skip
    assert file_system(tmp_path, tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE trials SET reason = 'whim' WHERE number = 0", "I9"),
        ("UPDATE trials SET asked_after = 10000 WHERE number = 0", "I7"),
        ("UPDATE trials SET parents = '[1]' WHERE number = 0", "I7"),
        ("UPDATE jobs SET reason = 'whim'", "I9"),
    ],
)
def test_the_checker_finds(
    sqlite: Database, architecture_of: Callable[[int], Architecture], statement: str, fault: str
) -> None:
    ended_job(sqlite, architecture_of)
    with sqlite.write() as session:
        session.execute(text(statement))
    assert any(f" {fault} " in line for line in check(sqlite))


def test_i4_a_lease_for_ever_is_a_fault(sqlite: Database, sqlite_job: JobRecord) -> None:
    with sqlite.write() as session:
        jobs.beat(session, sqlite_job.id, 1, 10 * DAY, time.time())
    assert any("I4" in line for line in check(sqlite))


def test_f20_a_stale_owner_is_told_from_a_living_one() -> None:
    from search.running import is_alive, owner_name

    assert is_alive(owner_name())
    host, pid, _ = owner_name().rsplit(":", 2)
    assert not is_alive(f"{host}:{pid}:1"), "another process had this number before"
    assert not is_alive(f"{host}:{2**22 + 1}:5")
    assert is_alive(f"elsewhere:{os.getpid()}:1"), "other machines cannot be looked into"
