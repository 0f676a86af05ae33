"""What is kept of old jobs: every trial with its numbers, the models of fronts and references, not the rest.

    of jobs that ended before a day:  events of single trials, workers' logs       (rows)
                                      checkpoints of trainings nobody stands on    (files)

Front members, references and finalists keep everything, in this job and any other.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from .own_teacher import FOLDER
from .storage import details
from .storage.database import Database
from .workers.store import Store, store_of

log = logging.getLogger(__name__)

TRAINING = "training"


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
    store = store_of(database)
    folders = list(_unused(database, store, now - older_than_s))
    size = sum(map(store.size_bytes, folders))
    for folder in () if dry_run else folders:
        store.remove(folder)
    log.info("details removed", extra={"jobs": len(ids), "checkpoints": len(folders), "dry_run": dry_run})
    events, logs = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    return Removed(len(ids), events, logs, len(folders), size)


def _prune_rows(database: Database, job_id: str, now: float, dry_run: bool) -> tuple[int, int]:
    if dry_run:
        return database.reading(lambda session: details.count(session, job_id))
    return database.storing(lambda session: details.remove(session, job_id, now))


def _unused(database: Database, store: Store, before: float) -> Iterator[str]:
    """Trainings that only old jobs have, and there no front member, reference or finalist; and teachers that
    only old jobs have. Names in the store."""
    names = store.children(TRAINING)
    kept = database.reading(lambda session: details.trainings_in_use(session, before))
    known = database.reading(lambda session: details.trainings_known(session, names))
    for name in names:
        if name in known and name not in kept:
            yield f"{TRAINING}/{name}"
    in_use, known = database.reading(lambda session: details.teachers(session, before))
    for name in store.children(f"{TRAINING}/{FOLDER}"):
        place = store.folder / TRAINING / FOLDER / name
        is_new = place.stat().st_mtime >= before if place.exists() else name not in known
        if name not in in_use and not is_new:  # a new one is of a job that is being created
            yield f"{TRAINING}/{FOLDER}/{name}"
