"""What processes that died left in the data folder: removed within ten minutes (I8).

    exports/<id>.<mark>.draft   of a writer that is gone
    exports/<id>                of a row that is gone: its job was deleted
    training/.../.draft-*       of a worker that is gone

What a living process writes is younger than `STALE_S`.
"""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from .clock import Clock
from .storage import artefacts
from .storage.database import Database

log = logging.getLogger(__name__)

STALE_S = 480.0
"""Age from which a stray belongs to nobody; with a look every minute it is gone in ten."""


def tidy(database: Database, clock: Clock, *, stale_s: float = STALE_S) -> list[Path]:
    """Removes strays and returns them. May be stopped at any moment and repeated."""
    strays = [path for path in _strays(database) if _age_s(path, clock.time()) > stale_s]
    for path in strays:
        shutil.rmtree(path, ignore_errors=True)
        log.info("stray removed", extra={"path": path.name})
    return strays


def _strays(database: Database) -> Iterator[Path]:
    exports = database.data_dir / "exports"
    folders = [path for path in exports.iterdir() if path.is_dir()] if exports.is_dir() else []
    names = {path.name.partition(".")[0] for path in folders}
    states = database.reading(lambda session: artefacts.states(session, names))
    for path in folders:
        state = states.get(path.name.partition(".")[0])
        is_draft = path.name.endswith(".draft")
        if state is None or (is_draft and state != "running"):
            yield path
    training = database.data_dir / "training"
    if training.is_dir():
        yield from training.glob("*/*/*/.draft-*")


def _age_s(path: Path, now: float) -> float:
    """Since the newest change inside; a writer that lives changes something."""
    try:
        return now - max(one.stat().st_mtime for one in (path, *path.iterdir()))
    except OSError:
        return 0.0


__all__ = ["STALE_S", "tidy"]
