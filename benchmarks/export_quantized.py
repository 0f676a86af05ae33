"""What quantized files lose and gain: finalists of a job in float32, dynamic and static int8, and 4 bits.

    python -m benchmarks.export_quantized [--finalists N] [--data DIR] [--json FILE] [--again]

A job (`JOB`, kept in DIR with its data) searches `decoder-small` in float32 and retrains its front; further
jobs with the next seeds follow until there are N different finalists. Every finalist is exported, and written
in every form as the program writes it. Of every file: bits per byte on the validation part, latency of one
pass (ONNX Runtime, one thread, one sequence of the full context), size. The files of one model are timed one
after the other, forth and back, and the two values averaged: what disturbs the machine for longer disturbs
all of them. Loss is the file's quality minus float32's, speed-up float32's latency over the file's; the table
has medians and extremes over the finalists.

What stands in DIR or in FILE is not done twice, so an interrupted run goes on; `--again` times all files anew
(some 20 s per finalist), for a machine that was not quiet.
"""

import argparse
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch

from evaluators.export_measures import file_quality
from evaluators.latency import EstimatorLimits, Target, device_facts, measure_onnx
from evaluators.training import TaskData, calibration_batch, prepare_task
from search.clock import Clock
from search.exporting import request_export, run_export
from search.job import parse_job
from search.plan import plan_job
from search.records import FINAL_JOB_STATES, JobRecord, TrialRecord
from search.running import owner_name, resume, run
from search.storage import artefacts, jobs, trials
from search.storage.database import Database
from space.architecture import Architecture, parse_architecture
from space.export import Quantize, load_folder, write_onnx_files
from space.quantization import NumberFormat

JOB: Mapping[str, Any] = {
    "name": "finalists in integers",
    "task": {"kind": "language-model", "dataset": "python-stdlib"},
    # number formats are what is compared: the search itself does not choose them
    "space": {
        "preset": "decoder-small",
        "set": {"number_format": ["fp32"], "num_layers": [1, 2, 3], "d_model": [32, 64, 96]},
    },
    # the size as a third objective gives a front of ten and more
    "objectives": ["bits_per_byte", "latency_s", "weights_bytes"],
    "proxies": [],
    "screen": {"candidates": 1},
    "training": {"steps": 120, "rungs": 1},
    "references": {"sizes": 1},
    "budget": {"trials": 24},
}
FINALIST_STEPS = 400
FILES: Mapping[Quantize, tuple[str, NumberFormat]] = {
    "none": ("model.onnx", "fp32"),
    "int8": ("model.int8.onnx", "int8_dynamic"),
    "int8-static": ("model.int8-static.onnx", "int8_dynamic"),
    "int4": ("model.int4.onnx", "int4_g32"),
}
"""`quantize` -> its file, and the number format that it is timed as."""
LIMITS = EstimatorLimits(max_seconds=2.0, attempts=2, rounds=2)
LEASE_S = 600.0
RESULTS = Path(__file__).parent / "results"

Finalist = tuple[JobRecord, TrialRecord]


def finalists(database: Database, count: int) -> list[Finalist]:
    """That many different architectures that jobs of `JOB` retrained; runs the jobs that are missing."""
    found: dict[str, Finalist] = {}
    for seed in range(4):
        job = _job(database, seed, count)
        with database.read() as session:
            rows = trials.all_trials(session, job.id)
        for row in rows:
            if row.number >= 0 and row.final is not None:
                found.setdefault(row.architecture_id, (job, row))
        if len(found) >= count:
            break
    return list(found.values())[:count]


def _job(database: Database, seed: int, count: int) -> JobRecord:
    """The ended job of a seed."""
    data = {
        **JOB,
        "strategy": {"seed": seed},
        "finalists": {"count": count, "seeds": 1, "steps": FINALIST_STEPS},
    }
    with database.read() as session:
        known: Sequence[JobRecord] = jobs.list_jobs(session, tenant="local").items
    for row in known:
        if row.name == JOB["name"] and row.spec["strategy"]["seed"] == seed and row.state != "cancelled":
            if row.state in FINAL_JOB_STATES:
                return row
            return resume(row.id, database=database, ray="none").job
    return run(plan_job(parse_job(data)), database=database, ray="none").job


def exported(database: Database, finalist: Finalist) -> Path:
    """The folder of a finalist's verified export, with its ONNX files in every form."""
    job, trial = finalist
    clock = Clock()
    with database.write() as session:
        ask = request_export(
            session, job, trial.label, formats=["torch"], quantize="none",
            data_dir=database.data_dir, now=clock.time(),
        )  # fmt: skip
    if ask.state != "ready":
        with database.write() as session:
            claimed = artefacts.claim_queued(session, owner_name(), LEASE_S, clock.time())
        assert claimed is not None
        ask = run_export(database, claimed, clock)
    assert ask.path is not None, ask.message
    model, architecture = load_folder(database.data_dir / ask.path)
    folder = database.data_dir / "onnx" / ask.id
    folder.mkdir(parents=True, exist_ok=True)
    if any(not (folder / name).exists() for name, _ in FILES.values()):
        calibration = torch.from_numpy(calibration_batch(_task()))
        for quantize in list(FILES)[1:]:
            write_onnx_files(model, architecture, folder, quantize=quantize, calibration=calibration)
    return folder


@cache
def _task() -> TaskData:
    return prepare_task(JOB["task"]["kind"], JOB["task"]["dataset"])


def timed(folder: Path, architecture: Architecture, scratch: Path) -> dict[str, Any]:
    """Form -> both latencies; and what disturbed them."""
    latencies: dict[Quantize, list[float]] = {form: [] for form in FILES}
    flags: set[str] = set()
    for form in (*FILES, *reversed(list(FILES))):
        name, number_format = FILES[form]
        described = architecture.with_number_format(number_format)
        value = measure_onnx(folder / name, described, Target(), scratch=scratch, limits=LIMITS)
        assert value.value is not None
        latencies[form].append(value.value)
        flags |= value.flags
    return {"latencies_s": latencies, "flags": sorted(flags), "load": os.getloadavg()[0]}


def model_row(database: Database, finalist: Finalist) -> dict[str, Any]:
    """Exports and measures one finalist."""
    job, trial = finalist
    assert trial.final is not None
    folder = exported(database, finalist)
    times = timed(folder, parse_architecture(trial.architecture), database.data_dir / "latency")
    return {
        "architecture": trial.architecture,
        "trial": trial.number,
        "job_seed": job.spec["strategy"]["seed"],
        "params": trial.values["params"],
        "files": {
            form: {
                "bits_per_byte": file_quality(folder / name, _task())["values"]["bits_per_byte"],
                "size_bytes": (folder / name).stat().st_size,
                "latency_s": statistics.mean(times["latencies_s"][form]),
                "latencies_s": times["latencies_s"][form],
            }
            for form, (name, _) in FILES.items()
        },
        "flags": times["flags"],
        "load": times["load"],
    }


def summary(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Per quantized file the loss and the speed-up over all models."""
    rows: dict[str, Any] = {}
    for key in list(FILES)[1:]:
        pairs = [(model["files"][key], model["files"]["none"]) for model in models]
        losses = [a["bits_per_byte"] - b["bits_per_byte"] for a, b in pairs]
        speedups = [b["latency_s"] / a["latency_s"] for a, b in pairs]
        sizes = [a["size_bytes"] / b["size_bytes"] for a, b in pairs]
        rows[key] = {
            "models": len(pairs),
            "loss_bits_per_byte": _spread(losses),
            "speedup": _spread(speedups),
            "size": _spread(sizes),
            "faster": sum(one > 1 for one in speedups),
        }
    return rows


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--finalists", type=int, default=10)
    parser.add_argument("--data", type=Path, default=Path(gettempdir()) / "paretoformer-export-quantized")
    parser.add_argument("--json", type=Path, default=RESULTS / "export_quantized.json")
    parser.add_argument("--again", action="store_true", help="time all files anew")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.data.mkdir(parents=True, exist_ok=True)
    database = Database.open(f"sqlite:///{given.data}/paretoformer.db")
    stored = json.loads(given.json.read_text(encoding="utf-8")) if given.json.exists() else {}
    known = [] if given.again or stored.get("job") != JOB else stored["models"]
    models: list[dict[str, Any]] = []
    for number, finalist in enumerate(finalists(database, given.finalists)):
        before = [one for one in known if one["architecture"] == finalist[1].architecture]
        models += before or [model_row(database, finalist)]
        report = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": device_facts(),
            "job": JOB,
            "finalist_steps": FINALIST_STEPS,
            "summary": summary(models),
            "models": models,
        }
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(number, finalist[1].label, json.dumps(summary(models)), flush=True)
    database.close()


if __name__ == "__main__":
    main()
