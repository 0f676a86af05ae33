"""The product's claim: a search of half an hour on two cores against what an engineer would write down.

    python -m benchmarks.headline [--tasks NAME ...] [--minutes 30] [--most-hours 2] [--workers 2]
                                  [--folder DIR] [--json FILE]

One job a task, one search seed: `--minutes` of search, then finalists and references trained with three seeds
at the finalists' budget, exported and measured (the job does all of it). Stated: the largest speed-up at
equal quality with its interval, against full-precision references and against int8 references apart, so that
the gain of architecture and of number format are seen apart; on validation values, on exported models.

Resumable: the job's id stands in the folder, an interrupted run goes on with it, and a task that is done is
read from its database. A task that takes longer than `--most-hours` is stopped, and counts with what it has.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluators.latency import device_facts
from search.coordinator import Coordinator
from search.job import parse_job
from search.plan import plan_job
from search.records import FINAL_JOB_STATES, TrialRecord
from search.running import Result, result, resume, run
from search.storage import jobs, trials
from search.storage.database import Database

RESULTS = Path(__file__).parent / "results"
TASKS: Mapping[str, Mapping[str, str]] = {
    "python-stdlib": {"kind": "language-model", "dataset": "python-stdlib"},
    "mnist1d": {"kind": "sequence", "dataset": "mnist1d"},
    "python-packages": {"kind": "text-classification", "dataset": "python-packages"},
}
RECIPE: Mapping[str, Any] = {
    "training": {"steps": 600, "rungs": 3, "reduction": 3},
    "screen": {"candidates": 4},
    "references": {"sizes": 4},
    "finalists": {"count": 4, "seeds": 3, "steps": 2000},
    "strategy": {"kind": "surrogate", "seed": 0},
}
TARGETS = {"fp32": 3.3, "int8": 1.5}


def job_of(task: str, minutes: float, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The job file of a task; its trials are limited by time alone."""
    budget = {"trials": 100_000, "time": f"{minutes * 60:.0f}s"}
    return {"name": f"headline {task}", "task": dict(TASKS[task]), "budget": budget, **RECIPE, **changes}


def searched(
    task: str, given: argparse.Namespace, changes: Mapping[str, Any]
) -> tuple[Result, Counter[str], float]:
    """The job of a task, new, taken up again, or finished earlier; how its trials ended, and the seconds it
    took in this run."""
    database = Database.open(f"sqlite:///{given.folder / f'{task}.db'}")
    note = given.folder / f"{task}.job"
    began = time.monotonic()
    ray = "none" if given.workers == 0 else "local"

    def on_tick(coordinator: Coordinator) -> None:
        if not note.exists():
            note.write_text(coordinator.ledger.job.id)
        job = coordinator.ledger.job
        if job.state == "running" and coordinator.ledger.elapsed_s() > 3600 * given.most_hours:
            with database.write() as session:
                jobs.request(session, job.id, "stop")

    if note.exists():
        found = result(database, note.read_text())
        if found.job.state not in FINAL_JOB_STATES:
            found = resume(
                found.job.id, database=database, ray=ray, workers=given.workers or None, on_tick=on_tick
            )
    else:
        plan = plan_job(parse_job(job_of(task, given.minutes, changes)))
        found = run(plan, database=database, ray=ray, workers=given.workers or None, on_tick=on_tick)
    with database.read() as session:
        ends = Counter(str(row.state) for row in trials.all_trials(session, found.job.id) if row.number >= 0)
    database.close()
    return found, ends, time.monotonic() - began


def told(found: Result, ends: Mapping[str, int], seconds: float) -> dict[str, Any]:
    """The figures of a task."""
    job, indicators = found.job, found.job.indicators
    best = max((row for row in found.front), key=lambda row: row.seeds, default=None)
    return {
        "job": job.id,
        "state": [job.state, job.reason, job.stage],
        "seconds_of_work": round(float(job.context.get("active_s", 0.0))),
        "seconds_of_this_run": round(seconds),
        "trials": {"all": sum(ends.values()), **ends},
        "front": len(found.front),
        "seeds": best.seeds if best else None,
        "finalist_steps": job.spec["finalists"]["steps"],
        "hypervolume_gain": indicators.get("hypervolume_gain"),
        "speedup_at_equal_quality": indicators.get("speedup_at_equal_quality"),
        "speedup_at_the_search_budget": indicators.get("speedup_at_equal_quality_search"),
        "cascade": indicators.get("cascade"),
        "models": [_row(row) for row in (*found.front, *found.references)],
    }


def _row(row: TrialRecord) -> dict[str, Any]:
    latency = row.effective_spread.get("latency_s")
    kept = ("params", "latency_s", "loss", "bits_per_byte", "error")
    return {
        "trial": row.label,
        "number_format": ",".join(sorted({str(one["number_format"]) for one in row.architecture["layers"]})),
        "seeds": row.seeds,
        "values": {key: row.effective[key] for key in kept if key in row.effective},
        "latency_ci95": [latency.low, latency.high] if latency else None,
    }


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--data", type=Path, help="not used: the tasks are built in")
    parser.add_argument("--minutes", type=float, default=30.0, help="of search a task")
    parser.add_argument("--most-hours", type=float, default=2.0, help="a task, finalists included")
    parser.add_argument("--workers", type=int, default=2, help="0: in this process, without Ray")
    parser.add_argument("--small", action="store_true", help="a trial run: tiny trainings, no claim")
    parser.add_argument("--folder", type=Path, default=Path("headline"), help="databases and checkpoints")
    parser.add_argument("--json", type=Path, default=RESULTS / "headline.json", metavar="FILE")
    return parser.parse_args(arguments)


SMALL: Mapping[str, Any] = {
    "training": {"steps": 12, "rungs": 2},
    "references": {"sizes": 1},
    "screen": {"candidates": 2, "sample": 0},
    "finalists": {"count": 1, "seeds": 2, "steps": 16},
}


def main() -> None:
    given = options()
    given.folder.mkdir(parents=True, exist_ok=True)
    known = json.loads(given.json.read_text()) if given.json.exists() else {}
    tasks: dict[str, Any] = dict(known.get("tasks", {}))
    for task in given.tasks:
        tasks[task] = told(*searched(task, given, SMALL if given.small else {}))
        file = {
            "about": "speed-up at equal quality of one search a task against the reference family",
            "is_claim": not given.small,
            "targets": TARGETS,
            "date": datetime.now(UTC).date().isoformat(),
            "machine": device_facts(),
            "load": os.getloadavg()[0],
            "minutes_of_search": given.minutes,
            "tasks": tasks,
        }
        given.json.write_text(json.dumps(file, indent=1) + "\n", encoding="utf-8")
        print(task, json.dumps(tasks[task]["speedup_at_equal_quality"]), flush=True)


if __name__ == "__main__":
    main()
