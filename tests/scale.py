"""Large databases in seconds: rows written directly, as a coordinator would have left them.

`big_job` makes one job of very many trials (a few hundred architectures, used again and again), `many_jobs`
very many small queued jobs. Both keep the invariants of `search.storage.check`.
"""

import datetime as dt
import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from api.spaces import preset_space
from search.indicators import indicators
from search.job import parse_job
from search.objectives import OBJECTIVES
from search.records import JobRecord
from search.storage import architectures, events, jobs, trials
from search.storage.database import Database
from search.storage.front import front_numbers
from search.storage.models import Event, Job, Trial
from space.architecture import Architecture
from space.constraints import static_costs
from space.reference_family import reference_family
from space.sampling import sample

KEYS = ("bits_per_byte", "latency_s")
BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NUM_ARCHITECTURES = 300
STEPS = (75, 150, 300)
_CHUNK = 5000


@dataclass(frozen=True, slots=True)
class _Drawn:
    architecture: Architecture
    static: dict[str, float]


def big_job(
    database: Database,
    num_trials: int,
    *,
    name: str = "large",
    tenant: str = "local",
    seed: int = 0,
    until: str = "completed",
) -> JobRecord:
    """A job of `num_trials` ended trials and eight references, left in the state `until` (or `running`)."""
    rng = random.Random(seed)
    spec = parse_job({"name": name, "objectives": list(KEYS), "budget": {"trials": max(1, num_trials)}})
    drawn = _drawn(rng, min(NUM_ARCHITECTURES, max(1, num_trials)))
    references = [one.architecture for one in reference_family(preset_space("decoder-small"), 4)[:8]]
    known = [_Drawn(one, static_costs(one, 1, 128)) for one in references]
    with database.write() as session:
        job = jobs.create(
            session,
            name=name,
            spec=spec.model_dump(mode="json"),
            objectives=KEYS,
            tenant=tenant,
            lease=("scale", database.now() + 600),
            context={
                "warnings": [],
                "enqueued": [],
                "rung_steps": list(STEPS),
                "data_digest": "0" * 64,
                "space_size": "1000000",
            },
        )
        for one in (*drawn, *known):
            architectures.put(session, one.architecture)
        rows = [_row(job.id, -1 - i, one, rng) for i, one in enumerate(known)]
        rows += [_row(job.id, number, rng.choice(drawn), rng) for number in range(num_trials)]
        _flag(rows)
        _store(session, job, rows)
        front, beside = trials.front(session, job.id), trials.front(session, job.id, "reference")
        jobs.set_indicators(session, job.id, job.fence, indicators(front, beside, KEYS))
        jobs.add_counters(session, job.id, job.fence, proposed=num_trials, screened_out=3 * num_trials)
        if until == "completed":
            return jobs.set_state(session, job.id, "completed", fence=job.fence, reason="budget_reached")
        return jobs.get(session, job.id)


def many_jobs(database: Database, count: int, *, tenant: str = "local", state: str = "queued") -> list[str]:
    """`count` jobs without trials, queued or running without an owner; the ids in order of creation."""
    spec = parse_job({"name": "one of many", "objectives": list(KEYS)}).model_dump(mode="json")
    ids = [uuid4().hex for _ in range(count)]
    fixed: dict[str, Any] = {
        "tenant": tenant, "state": state, "reason": None, "message": None, "spec": spec,
        "objectives": list(KEYS), "context": {"warnings": [], "enqueued": []}, "counters": {},
        "indicators": {}, "stage": "search", "created_at": BEGIN, "started_at": None, "ended_at": None,
        "lease_owner": None, "lease_until": None, "fence": 0, "version": 1, "last_seq": 1, "labels": " ",
    }  # fmt: skip
    rows = [{"id": job_id, "name": f"job {i}", **fixed} for i, job_id in enumerate(ids)]
    begun = [_event(job_id, 1, "job.state", None, {"state": "queued", "reason": None}) for job_id in ids]
    with database.write() as session:
        for start in range(0, count, _CHUNK):
            session.execute(insert(Job), rows[start : start + _CHUNK])
            session.execute(insert(Event), begun[start : start + _CHUNK])
    return ids


def _drawn(rng: random.Random, count: int) -> list[_Drawn]:
    space = preset_space("decoder-small")
    found = [sample(space, rng) for _ in range(count)]
    return [_Drawn(one, static_costs(one, 1, 128)) for one in found]


def _row(job_id: str, number: int, one: _Drawn, rng: random.Random) -> dict[str, Any]:
    """Larger is better and slower, with noise: a front of a few dozen members."""
    latency = 2e-4 * (one.static["macs"] / 1e6) ** 0.7 * math.exp(rng.gauss(0.0, 0.25))
    quality = 1.9 + 1.6 * (one.static["params"] / 1e4) ** -0.3 * math.exp(rng.gauss(0.0, 0.08))
    values = {**one.static, "bits_per_byte": quality, "latency_s": latency}
    fate = rng.random() if number >= 0 else 1.0
    state = "failed" if fate < 0.01 else "pruned" if fate < 0.4 else "completed"
    counts = state == "completed"
    vector = [OBJECTIVES[key].minimised(values[key]) for key in KEYS]
    begun = BEGIN + dt.timedelta(seconds=max(0, number) * 0.4)
    kinds = dict.fromkeys(values, "computed") | {
        "bits_per_byte": "measured",
        "latency_s": "measured" if counts else "predicted",
    }
    return {
        "job_id": job_id, "number": number, "origin": "reference" if number < 0 else "mutation",
        "parents": [rng.randrange(number)] if number > 0 else [], "note": "", "asked_after": 1,
        "architecture_id": one.architecture.id, "state": state,
        "reason": "diverged" if state == "failed" else None, "message": None, "attempt": 1,
        "rung": 3 if counts else 1, "steps": STEPS[-1] if counts else STEPS[0],
        "values": values if state != "failed" else dict(one.static),
        "spread": {}, "kinds": kinds if state != "failed" else dict.fromkeys(one.static, "computed"),
        "flags": [], "final": None, "objective_0": vector[0] if state != "failed" else None,
        "objective_1": vector[1] if state != "failed" else None, "objective_2": None, "objective_3": None,
        "counted": counts, "on_front": False, "created_at": begun,
        "ended_at": begun + dt.timedelta(seconds=30),
    }  # fmt: skip


def _flag(rows: Sequence[dict[str, Any]]) -> None:
    for group in ([row for row in rows if row["number"] < 0], [row for row in rows if row["number"] >= 0]):
        members = front_numbers(
            {row["number"]: (row["objective_0"], row["objective_1"]) for row in group if row["counted"]}
        )
        for row in group:
            row["on_front"] = row["number"] in members


def _store(session: Session, job: JobRecord, rows: Sequence[dict[str, Any]]) -> None:
    """Trials, and of each the event of its end."""
    first = events.last_seq(session, job.id)
    told = [
        _event(job.id, first + i, "trial.state", row["number"], {"state": row["state"], "reason": None})
        for i, row in enumerate(rows, start=1)
    ]
    for start in range(0, len(rows), _CHUNK):
        session.execute(insert(Trial), rows[start : start + _CHUNK])
        session.execute(insert(Event), told[start : start + _CHUNK])
    session.execute(update(Job).where(Job.id == job.id).values(last_seq=first + len(rows)))
    session.expire_all()


def _event(job_id: str, seq: int, kind: str, trial: int | None, data: dict[str, Any]) -> dict[str, Any]:
    return {"job_id": job_id, "seq": seq, "at": BEGIN, "kind": kind, "trial": trial, "data": data}


def main() -> None:
    """`python -m tests.scale FILE TRIALS JOBS`: a database to look at pages with."""
    file, num_trials, num_jobs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    database = Database.open(file)
    many_jobs(database, num_jobs)
    job = big_job(database, num_trials)
    sys.stdout.write(json.dumps({"job": job.id}) + "\n")


if __name__ == "__main__":
    main()
