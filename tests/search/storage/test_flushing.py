"""Flushes of commits: one for all that wait, none acknowledged before it, none where nobody asked."""

import os
import threading
import time
from pathlib import Path

import pytest

from search.storage import jobs
from search.storage.database import Database
from search.storage.flushing import GroupedFlush
from space.errors import UnavailableError


def test_commits_that_wait_for_the_disk_share_the_next_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "log"
    file.touch()
    is_slow, went_on = threading.Event(), threading.Event()
    count, acknowledged = 0, 0

    def flush(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == 1:
            is_slow.set()
            assert went_on.wait(30)

    monkeypatch.setattr(os, "fsync", flush)
    group = GroupedFlush(file)

    def commit() -> None:
        nonlocal acknowledged
        group.wait()
        acknowledged += 1

    threads = [threading.Thread(target=commit) for _ in range(9)]
    threads[0].start()
    assert is_slow.wait(30)
    for thread in threads[1:]:
        thread.start()
    end = time.monotonic() + 30
    while group._asked < 9:
        assert time.monotonic() < end
        time.sleep(0.001)
    assert acknowledged == 0, "the first flush began before the others, and has not ended"
    went_on.set()
    for thread in threads:
        thread.join()
    assert (count, acknowledged) == (2, 9)


def test_a_write_is_flushed_before_it_is_acknowledged_only_with_full_durability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    )
    for durability in ("normal", "full"):
        database = Database.open(tmp_path / f"{durability}.db", durability=durability)
        flushed.clear()
        with database.write() as session:
            jobs.create(session, name="one", spec={}, objectives=["loss"])
        assert flushed == ([] if durability == "normal" else [str(tmp_path / "full.db-wal")])
        database.close()


def test_a_disk_that_refuses_is_told_and_the_next_commit_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open(tmp_path / "p.db", durability="full")

    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(UnavailableError, match="Input/output error"), database.write() as session:
            jobs.create(session, name="one", spec={}, objectives=["loss"], job_id="1" * 32)
    with database.write() as session:  # repeated, it finds what is there
        assert jobs.create(session, name="one", spec={}, objectives=["loss"], job_id="1" * 32).name == "one"
    database.close()


def test_a_log_that_is_gone_was_flushed_into_the_database(tmp_path: Path) -> None:
    GroupedFlush(tmp_path / "gone").wait()
