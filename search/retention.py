"""What is kept of old jobs: every trial with its numbers, the models of fronts and references, not the rest.

    of jobs that ended before a day:  events of single trials, workers' logs       (rows)
                                      checkpoints of trainings nobody stands on    (files)

Front members, references and finalists keep everything, in this job and any other.
"""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .own_teacher import FOLDER
from .storage import details
from .storage.database import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Removed:
    """What `prune` removed, or would remove."""

    jobs: int
    events: int
    logs: int
    checkpoints: int
    size_bytes: int


def prune(database: Database, older_than_s: float, now: float, *, dry_run: bool = False) -> Removed:
    """Removes details of jobs that ended `older_than_s` or more before `now`. May be stopped, repeated."""
    ids = database.reading(lambda session: details.old_jobs(session, now - older_than_s))
    counts = [_prune_rows(database, job_id, now, dry_run) for job_id in ids]
    folders = list(_unused(database, now - older_than_s))
    size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    for folder in () if dry_run else folders:
        shutil.rmtree(folder, ignore_errors=True)
    log.info("details removed", extra={"jobs": len(ids), "checkpoints": len(folders), "dry_run": dry_run})
    events, logs = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    return Removed(len(ids), events, logs, len(folders), size)


def _prune_rows(database: Database, job_id: str, now: float, dry_run: bool) -> tuple[int, int]:
    if dry_run:
        return database.reading(lambda session: details.count(session, job_id))
    return database.storing(lambda session: details.remove(session, job_id, now))


def _unused(database: Database, before: float) -> Iterator[Path]:
    """Folders of trainings that only old jobs have, and there no front member, reference or finalist; and of
    teachers that only old jobs have."""
    training = database.data_dir / "training"
    if not training.is_dir():
        return
    names = sorted(path.name for path in training.iterdir() if path.is_dir())
    kept = database.reading(lambda session: details.trainings_in_use(session, before))
    known = database.reading(lambda session: details.trainings_known(session, names))
    for name in names:
        if name in known and name not in kept:
            yield training / name
    if (teachers := training / FOLDER).is_dir():
        used = database.reading(lambda session: details.teachers_in_use(session, before))
        for folder in sorted(path for path in teachers.iterdir() if path.is_dir() and path.name not in used):
            if folder.stat().st_mtime < before:  # else of a job that is being created
                yield folder
