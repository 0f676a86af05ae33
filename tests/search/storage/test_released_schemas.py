"""A database of every released schema still opens, upgrades and says what it said."""

import shutil
from pathlib import Path

import pytest

from search.storage import jobs, trials
from search.storage.check import check
from search.storage.database import Database

FILES = sorted((Path(__file__).parents[2] / "data" / "schema").glob("*.db"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_released_database_opens_upgrades_and_keeps_its_invariants(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "old.db")
    database = Database.open(f"sqlite:///{tmp_path / 'old.db'}")
    try:
        assert check(database) == []
        with database.read() as session:
            (job,) = jobs.list_jobs(session, tenant="local").items
            assert job.state == "completed"
            assert job.indicators["hypervolume"] > 0
            assert trials.front(session, job.id)
    finally:
        database.close()


def test_every_revision_has_a_file() -> None:
    versions = Path(__file__).parents[3] / "search" / "storage" / "migrations" / "versions"
    revisions = {path.stem.split("_")[0] for path in versions.glob("[0-9]*.py")}
    assert revisions == {path.stem for path in FILES}
