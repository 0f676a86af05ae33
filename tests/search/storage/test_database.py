import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from search.storage import events, jobs
from search.storage.check import check
from search.storage.database import Database, DiskFullError
from search.storage.engine import parse_url
from space.errors import InvalidInputError, UnavailableError, UnsupportedError

SPEC = {"budget": {"trials": 1}}


def submit(database: Database, name: str = "a search") -> str:
    with database.write() as session:
        return jobs.create(session, name=name, spec=SPEC, objectives=["error", "latency_s"]).id


def names(database: Database) -> list[str]:
    with database.read() as session:
        return [job.name for job in jobs.list_jobs(session, tenant="local").items]


def test_a_new_file_is_made_migrated_and_reopened(tmp_path: Path) -> None:
    file = tmp_path / "with space & #.db"
    first = Database.open(f"sqlite:///{file}")
    submit(first)
    first.close()
    again = Database.open(file, durability="full")
    assert names(again) == ["a search"]
    assert again.data_dir == tmp_path / "paretoformer-data"
    assert not again.data_dir.exists()
    assert check(again) == []
    again.close()


def test_sqlite_runs_with_log_and_foreign_keys(tmp_path: Path) -> None:
    """`full` is a flush after the commit, not SQLite's own within it."""
    for durability in ("normal", "full"):
        database = Database.open(tmp_path / f"{durability}.db", durability=durability)
        with database.read() as session:
            pragmas = [
                session.scalar(text(f"PRAGMA {name}"))
                for name in ("journal_mode", "foreign_keys", "synchronous")
            ]
        assert pragmas == ["wal", 1, 1]
        database.close()


def test_the_data_folder_can_be_elsewhere(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db", data_dir=tmp_path / "elsewhere")
    assert database.data_dir == tmp_path / "elsewhere"
    database.close()


def test_a_relative_path_does_not_follow_a_later_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    database = Database.open("sqlite:///here.db")
    monkeypatch.chdir(tmp_path / "other")
    submit(database)
    database.close()
    assert not list((tmp_path / "other").iterdir())


def test_an_exception_undoes_the_transaction(db: Database) -> None:
    def fail() -> None:
        with db.write() as session:
            jobs.create(session, name="lost", spec=SPEC, objectives=["error"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(db) == []


def test_what_is_written_in_a_read_is_dropped(sqlite: Database) -> None:
    with sqlite.read() as session:
        jobs.create(session, name="lost", spec=SPEC, objectives=["error"])
    assert names(sqlite) == []


def test_a_read_sees_one_state_while_others_write(db: Database) -> None:
    submit(db, "first")
    with db.read() as session:
        assert jobs.counts(session)["queued"] == 1
        submit(db, "second")
        assert jobs.counts(session)["queued"] == 1
    assert names(db) == ["second", "first"]


def test_nested_writes_are_named_instead_of_waiting_for_themselves(sqlite: Database) -> None:
    with sqlite.write(), pytest.raises(RuntimeError, match="pass the session on"), sqlite.write():
        pass
    assert submit(sqlite)


def test_threads_write_and_read_at_once(db: Database) -> None:
    job_id = submit(db)
    problems: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for turn in range(10):
                with db.write() as session:
                    events.append(session, job_id, "warning", None, {"worker": worker, "turn": turn})
                with db.read() as session:
                    assert events.last_seq(session, job_id) >= turn + 1
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with db.read() as session:
        assert [event.seq for event in events.after(session, job_id)] == list(range(1, 62))
    assert check(db) == []


@pytest.mark.slow
def test_f28_processes_writing_one_file_never_see_a_lock(sqlite: Database) -> None:
    job_id = submit(sqlite)
    program = textwrap.dedent(
        f"""
        from search.storage.database import Database
        from search.storage import events
        database = Database.open({str(sqlite.file)!r})
        for turn in range(15):
            with database.write() as session:
                events.append(session, {job_id!r}, "warning", None, {{"turn": turn}})
        """
    )
    with sqlite.read() as session:  # a long reader beside them
        jobs.get(session, job_id)
        workers = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
        assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0]
    with sqlite.read() as session:
        assert events.last_seq(session, job_id) == 46
    assert check(sqlite) == []


def test_a_writer_that_waits_too_long_gets_unavailable(sqlite: Database) -> None:
    assert sqlite.file is not None
    other = sqlite3.connect(sqlite.file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    hasty = Database.open(sqlite.file, patience_s=0.2)
    with pytest.raises(UnavailableError, match="locked"), hasty.write():
        pass
    assert names(hasty) == []
    other.rollback()
    assert submit(hasty)
    other.close()
    hasty.close()


def test_f29_a_full_disk_is_told_and_reading_goes_on(sqlite: Database) -> None:
    submit(sqlite)

    def fill() -> None:
        with sqlite.write() as session:
            session.execute(text("PRAGMA max_page_count=1"))
            for _ in range(200):
                jobs.create(session, name="x" * 200, spec={"text": "x" * 4000}, objectives=["error"])

    with pytest.raises(DiskFullError, match="no room"):
        fill()
    assert names(sqlite) == ["a search"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "not a file's path"),
        ("sqlite:///:memory:", "not a file's path"),
        ("", "not a file's path"),
        ("file:x.db?mode=ro", "not a file's path"),
        ("mysql://host/db", "unknown database 'mysql'"),
        ("postgresql+asyncpg://host/db", "unknown database"),
        ("sqlit:///a.db", "did you mean 'sqlite'"),
        ("://", "not a URL"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused(url: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Database.open(url)


def test_f30_a_missing_folder_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="does not exist; create it") as caught:
        Database.open(tmp_path / "missing" / "a.db")
    assert "\n" not in caught.value.message
    assert not list(tmp_path.iterdir())
    with pytest.raises(InvalidInputError, match="is a folder"):
        Database.open(tmp_path)


def test_f30_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(InvalidInputError, match="cannot be written"):
        Database.open("/proc/paretoformer.db")


def test_f30_a_read_only_file_is_named(empty_file: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pf-readonly-"))
    shutil.copyfile(empty_file, folder / "a.db")
    (folder / "a.db").chmod(0o444)
    folder.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may write everywhere
        with pytest.raises(InvalidInputError, match="cannot be written"):
            Database.open(folder / "a.db")
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_f31_damage_is_found_at_the_start_and_the_file_is_left_alone(
    sqlite: Database, tmp_path: Path
) -> None:
    for number in range(40):
        submit(sqlite, f"{number} " + "x" * 150)
    sqlite.close()
    assert sqlite.file is not None
    whole = sqlite.file.read_bytes()
    broken = tmp_path / "broken.db"
    for damaged in (whole[: len(whole) // 2], whole[:4096] + bytes(4096) + whole[8192:]):
        broken.write_bytes(damaged)
        with pytest.raises(InvalidInputError, match=r"damaged.*backup"):
            Database.open(broken)
        assert broken.read_bytes() == damaged
    broken.write_text("just text, certainly no database, long enough for a header " * 30)
    with pytest.raises(InvalidInputError, match="not an SQLite database"):
        Database.open(broken)


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE trials (x)")
    other.close()
    with pytest.raises(InvalidInputError, match="belongs to another program"):
        Database.open(file)
    other = sqlite3.connect(file)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("trials",)]
    other.close()


def test_passwords_are_not_shown() -> None:
    target = parse_url("postgresql://me:secret@host:5/db?sslmode=require")
    assert "secret" not in target.shown
    assert "host:5/db" in target.shown


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="cannot be reached") as caught:
        Database.open("postgresql://me:secret@127.0.0.1:1/db")
    assert "secret" not in caught.value.message


def test_f25_postgresql_connections_that_were_cut_are_replaced(postgresql: Database) -> None:
    with postgresql.read() as session:
        session.execute(text("SELECT 1"))
    with postgresql.write() as session:
        session.execute(
            text("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        )
    with postgresql.read() as session:
        assert session.scalar(text("SELECT 1")) == 1
    with pytest.raises(UnavailableError, match="cannot be used now"), postgresql.write() as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert postgresql.now() == pytest.approx(time.time(), abs=5)


def test_f39_a_backup_is_consistent_while_others_write(sqlite: Database, tmp_path: Path) -> None:
    submit(sqlite, "kept")
    with sqlite.write() as session:
        jobs.create(session, name="not yet", spec=SPEC, objectives=["error"])
        sqlite.backup(tmp_path / "copy.db")
    copy = Database.open(tmp_path / "copy.db")
    assert names(copy) == ["kept"]
    assert check(copy) == []
    copy.close()
    with pytest.raises(InvalidInputError, match="exists"):
        sqlite.backup(tmp_path / "copy.db")
    with pytest.raises(InvalidInputError, match="does not exist"):
        sqlite.backup(tmp_path / "missing" / "copy.db")


def test_backups_of_postgresql_are_its_own_tools_work(postgresql: Database, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="pg_dump"):
        postgresql.backup(tmp_path / "copy")


def test_an_injected_clock_gives_every_time(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.db", clock=lambda: 1e9)
    job_id = submit(database)
    with database.read() as session:
        assert jobs.get(session, job_id).created_at.timestamp() == 1e9
        assert events.after(session, job_id)[0].at.timestamp() == 1e9
    assert database.now() == 1e9
    database.close()
