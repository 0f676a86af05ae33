"""From a trial to a published model folder: written aside, verified, measured, renamed, then registered.

queued -> running -> ready          a folder below <data>/exports is visible only when it is whole (I8)
                  -> failed         the message names the check or the block; nothing is left behind
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from evaluators.export_check import verify_export
from evaluators.latency import Target, device_facts, measure_onnx, predictor
from evaluators.training import TaskData, evaluate, load_weights, training_fingerprint
from space.architecture import parse_architecture
from space.errors import ConflictError, InvalidInputError, ServiceError, nearest
from space.export import ExportedFolder, check_formats, write_folder
from space.model import build_model

from .clock import Clock
from .plan import JobPlan, taught
from .records import FINAL_JOB_STATES, ArtefactRecord, JobRecord, MeasurementRecord, TrialRecord
from .running import owner_name, stored_plan
from .storage import artefacts, jobs, measurements, trials
from .storage.database import Database
from .suggestions import pick
from .workers.stages import calibration_of, pack

log = logging.getLogger(__name__)

QUANTIZE = ("none", "int8")
"""none: the number formats the search chose. int8: every layer."""
REPORT = "export_report.json"
EXPORT_LEASE_S = 180.0
"""After this an export whose writer died is written by another."""


def request_export(
    session: Session, job: JobRecord, which: str, *, formats: Sequence[str], quantize: str, now: float
) -> ArtefactRecord:
    """Queues the export of a trial, named by number (`7`, `R1`) or by its place on the front (`knee`, ...).

    Raises:
        InvalidInputError: unknown format, quantization or pick, or an empty front.
        ConflictError: the trial is not trained to the end.
    """
    check_formats(formats)
    if quantize not in QUANTIZE:
        raise InvalidInputError(f"unknown quantization '{quantize}'; {nearest(quantize, QUANTIZE)}")
    trial = chosen_trial(session, job, which)
    if trial.state != "completed":
        raise ConflictError(
            f"trial {trial.label} is {trial.state} after {trial.steps} steps; "
            "only completed trials are exported"
        )
    request = {"formats": list(formats), "quantize": quantize}
    return artefacts.create(session, job_id=job.id, trial=trial.number, request=request, now=now)


def chosen_trial(session: Session, job: JobRecord, which: str) -> TrialRecord:
    """The trial a person means by a number, `R1`, or a pick of the front."""
    text = which.strip()
    digits = text.removeprefix("-").removeprefix("R").removeprefix("r")
    if digits.isdigit():
        number = int(digits) if digits == text else -int(digits)
        return trials.get(session, job.id, number)
    return pick(trials.front(session, job.id, "search"), job.objectives, text)


def run_next_export(database: Database, clock: Clock) -> bool:
    """Writes the oldest export nobody works on; False when there is none."""
    with database.write() as session:
        artefact = artefacts.claim_queued(session, owner_name(), EXPORT_LEASE_S, clock.time())
    if artefact is None:
        return False
    run_export(database, artefact, clock)
    return True


def run_export(database: Database, artefact: ArtefactRecord, clock: Clock) -> ArtefactRecord:
    """Writes, verifies and publishes one export; a failure is recorded, not raised."""
    name = f"exports/{artefact.id}"
    draft = database.data_dir / f"{name}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        report = _write(database, artefact, draft)
        digest = _digest(draft)
        final = database.data_dir / name
        shutil.rmtree(final, ignore_errors=True)
        os.replace(draft, final)
    except Exception as error:  # the border of a background task: whatever went wrong belongs in the row
        shutil.rmtree(draft, ignore_errors=True)
        if not isinstance(error, ServiceError):
            log.exception("export failed", extra={"export": artefact.id})
        message = error.message if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
        with database.write() as session:
            return artefacts.set_state(session, artefact.id, "failed", message=message, now=clock.time())
    size = sum(file.stat().st_size for file in final.iterdir())
    with database.write() as session:
        return artefacts.set_state(
            session,
            artefact.id,
            "ready",
            path=name,
            size_bytes=size,
            sha256=digest,
            report=report,
            now=clock.time(),
        )


def publish_to(database: Database, artefact: ArtefactRecord, out: Path) -> None:
    """Copies a ready export into a new or empty folder.

    Raises:
        InvalidInputError: the folder has something in it, or cannot be written.
    """
    check_folder(out)
    if artefact.state != "ready" or artefact.path is None:
        raise ConflictError(f"export {artefact.id} is {artefact.state}: {artefact.message or 'not ready'}")
    try:
        shutil.copytree(database.data_dir / artefact.path, out, dirs_exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"'{out}' cannot be written: {error.strerror}") from error


def check_folder(out: Path) -> None:
    """Raises InvalidInputError unless `out` is free to be written: new, or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInputError(f"'{out}' exists and is not an empty folder; name a new one")


def _write(database: Database, artefact: ArtefactRecord, draft: Path) -> dict[str, Any]:
    with database.read() as session:
        job = jobs.get(session, artefact.job_id)
        trial = trials.get(session, artefact.job_id, artefact.trial)
    plan = stored_plan(job)
    architecture = parse_architecture(trial.architecture)
    source = _checkpoint(database, plan, job, trial)
    model = build_model(architecture, seed=0)
    load_weights(model, database.data_dir / "training" / str(source.detail["checkpoint"]))
    model.eval()
    exported = write_folder(
        model,
        architecture,
        draft,
        formats=artefact.request["formats"],
        quantize=artefact.request["quantize"],
        preprocessing=plan.data.preprocessing,
        calibration=calibration_of(architecture, plan.data),
    )
    report = {
        **_origin(job, trial, source),
        "verification": verify_export(exported, model),
        "files": _measured_files(exported, plan, database.data_dir / "latency"),
        "versions": device_facts(),
    }
    (draft / REPORT).write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return report


def _checkpoint(database: Database, plan: JobPlan, job: JobRecord, trial: TrialRecord) -> MeasurementRecord:
    """The training the trial's numbers come from: the finalist's first seed where there is one.

    Raises:
        ConflictError: its weights are gone.
    """
    training = taught(plan.finalist_training, job.context) if trial.final else plan.training
    with database.read() as session:
        row = measurements.find(
            session, trial.training_id, plan.quality, training_fingerprint(plan.data, training),
            fidelity=training.steps, seed=plan.spec.strategy.seed,
        )  # fmt: skip
    folder = database.data_dir / "training" / str(row.detail["checkpoint"]) if row else None
    if row is None or folder is None or not folder.exists():
        raise ConflictError(
            f"the weights of trial {trial.label} are no longer in {database.data_dir.name}/training; "
            "run the job again (what is stored is not computed twice)"
        )
    return row


def _origin(job: JobRecord, trial: TrialRecord, source: MeasurementRecord) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "job": job.id,
        "job_name": job.name,
        "partial": job.state not in FINAL_JOB_STATES,
        "trial": trial.number,
        "origin": trial.origin,
        "parents": list(trial.parents),
        "architecture_id": trial.architecture_id,
        "task": job.context["task"],
        "data_digest": job.context["data_digest"],
        "training": {
            "steps": source.fidelity,
            "seed": source.seed,
            "stage": "final" if trial.final else "search",
        },
        "search_numbers": {
            "values": dict(trial.effective),
            "kinds": dict(trial.kinds),
            "spread": {key: asdict(spread) for key, spread in trial.effective_spread.items()},
            "seeds": trial.seeds,
            "test": dict(trial.final.test) if trial.final else {},
        },
    }


def _measured_files(exported: ExportedFolder, plan: JobPlan, scratch: Path) -> dict[str, Any]:
    """Quality on the validation part and latency of every ONNX file, as they were published."""
    target = Target(**{**asdict(plan.target), "runtime": "onnxruntime"})
    return {
        name: {
            "quality": _quality(exported.path / name, plan.data),
            "latency": pack(measure_onnx(exported.path / name, architecture, target, scratch=scratch)),
        }
        for name, architecture in exported.files.items()
        if name.endswith(".onnx")
    }


def _quality(path: Path, data: TaskData) -> Mapping[str, Any]:
    found = evaluate(predictor(path, threads=1), data, "validation")
    return {"part": "validation", "values": dict(found.values), "standard_error": dict(found.standard_error)}


def _digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, and all of them on disk."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
            os.fsync(file.fileno())
    return digest.hexdigest()


__all__ = [
    "QUANTIZE",
    "check_folder",
    "chosen_trial",
    "publish_to",
    "request_export",
    "run_export",
    "run_next_export",
]
