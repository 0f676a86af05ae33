"""The test kit of faults.md section 7: repository faults, and a history that is compared with the database.

`Faults` wraps every public function of `search.storage` that takes a session, found by looking, so that none
is forgotten. `Chronicle` is what workers did and clients were told, in files of their own.
"""

import inspect
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from search import storage
from search.records import FINAL_JOB_STATES, FINAL_TRIAL_STATES
from search.storage import events, jobs, trials
from search.storage.check import check
from search.storage.database import Database

KINDS = ("timeout", "unavailable", "locked", "commit_then_raise", "slow")
"""What may happen at a call; `slow` only takes its time."""
LOST_ANSWER = "lost_answer"


def functions() -> dict[tuple[ModuleType, str], Callable[..., Any]]:
    """Every repository function."""
    found: dict[tuple[ModuleType, str], Callable[..., Any]] = {}
    for name in storage.__all__:
        module = getattr(storage, name)
        if not inspect.ismodule(module):
            continue
        for key, function in inspect.getmembers(module, inspect.isfunction):
            parameters = list(inspect.signature(function).parameters)
            if not key.startswith("_") and parameters[:1] == ["session"]:
                found[module, key] = function
    return found


class Faults:
    """Lets calls fail at a rate; the same seed gives the same faults for the same calls."""

    def __init__(self, rate: float, seed: int = 0, kinds: tuple[str, ...] = KINDS) -> None:
        self.rate = rate
        self.met: Counter[str] = Counter()
        self._kinds = kinds
        self._rng = random.Random(seed)

    @contextmanager
    def everywhere(self) -> Iterator["Faults"]:
        commit = Session.commit

        def committed(session: Session) -> None:
            commit(session)
            if session.info.pop(LOST_ANSWER, False):
                raise _trouble("commit_then_raise")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Session, "commit", committed)
            for (module, name), function in functions().items():
                patch.setattr(module, name, self._wrapped(function))
            yield self

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(session: Session, *args: Any, **more: Any) -> Any:
            if self._rng.random() >= self.rate:
                return function(session, *args, **more)
            kind = self._rng.choice(self._kinds)
            self.met[kind] += 1
            if kind == "commit_then_raise":
                session.info[LOST_ANSWER] = True
            elif kind != "slow":
                raise _trouble(kind)
            return function(session, *args, **more)

        return faulty


def _trouble(kind: str) -> OperationalError:
    return OperationalError(
        "", {}, Exception({"locked": "database is locked"}.get(kind, f"arranged: {kind}"))
    )


class Chronicle:
    """Appends one line per fact, flushed: a killed process leaves what it wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, what: str, **facts: Any) -> None:
        line = json.dumps({"what": what, **facts}) + "\n"
        file = os.open(self._folder / f"{os.getpid()}.history", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def read(self) -> list[dict[str, Any]]:
        lines = [line for file in self._folder.glob("*.history") for line in file.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def faults(self, database: Database, job_id: str) -> list[str]:
        """Lost, doubled, zombie or wrong: what the database must not say after all this."""
        with database.read() as session:
            job, rows = jobs.get(session, job_id), trials.all_trials(session, job_id)
            found = []
            seq = 0
            ends: Counter[int] = Counter()
            while page := events.after(session, job_id, seq):
                for one in page:
                    if one.kind == "trial.state" and one.data["state"] in FINAL_TRIAL_STATES:
                        ends[one.trial or 0] += 1
                seq = page[-1].seq
        states = {row.number: row.state for row in rows}
        told = [one["trial"] for one in self.read() if one["what"] == "counted"]
        found += [f"trial {number} was acknowledged and is lost" for number in told if number not in states]
        found += [
            f"trial {number} was acknowledged as counted and is {states[number]}"
            for number in told
            if number in states and states[number] != "completed"
        ]
        found += [f"trial {number} was counted {n} times" for number, n in Counter(told).items() if n > 1]
        found += [f"trial {number} ended {n} times" for number, n in ends.items() if n > 1]
        if job.state in FINAL_JOB_STATES:
            zombies = [n for n, state in states.items() if state not in FINAL_TRIAL_STATES]
            found += [f"trial {number} outlives its job" for number in zombies]
        return found + check(database)


def recorded(gate: str, engine: str) -> dict[str, Any]:
    """What an earlier run has written of it, in the file that RECORD_GATES names."""
    path = os.environ.get("RECORD_GATES")
    known = json.loads(Path(path).read_text()) if path and Path(path).exists() else {}
    found: dict[str, Any] = known.get(gate, {}).get(engine, {})
    return found


def record(gate: str, engine: str, **figures: Any) -> None:
    if path := os.environ.get("RECORD_GATES"):
        file = Path(path)
        known = json.loads(file.read_text()) if file.exists() else {}
        known.setdefault(gate, {})[engine] = figures
        file.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
