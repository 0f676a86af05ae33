"""From a trial to a published model folder: written aside, verified, measured, renamed, then registered.

queued -> running -> ready          a folder below <data>/exports is visible only when it is whole (I8)
                  -> failed         the message names the check or the block; nothing is left behind
                  -> cancelled      by its user; the writer notices at its next step
"""

import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args
from uuid import uuid4

import torch
from sqlalchemy.orm import Session
from torch import Tensor

from evaluators.export_check import verify_export
from evaluators.export_measures import measured_files
from evaluators.latency import device_facts
from evaluators.training import calibration_batch, load_weights, training_fingerprint
from space.architecture import Architecture, parse_architecture
from space.errors import ConflictError, InvalidInputError, ServiceError, UnsupportedError, nearest
from space.export import FORMATS, Quantize, check_formats, write_folder
from space.model import build_model

from .clock import Clock
from .export_facts import card, measured_part, origin
from .export_files import folder_digest, looks_whole, published_files
from .plan import JobPlan, taught
from .records import (
    FINAL_JOB_STATES,
    ArtefactRecord,
    ArtefactState,
    JobRecord,
    MeasurementRecord,
    TrialRecord,
)
from .running import owner_name, stored_plan
from .storage import artefacts, jobs, measurements, trials
from .storage.artefacts import ENDED
from .storage.database import Database
from .suggestions import pick
from .workers.stages import calibration_of
from .workers.store import store_of

log = logging.getLogger(__name__)

QUANTIZE: tuple[str, ...] = get_args(Quantize)
REPORT = "export_report.json"
EXPORTER_VERSION = 3
"""Raised when the same request gives other files."""
EXPORT_LEASE_S = 60.0
"""After this an export whose writer died is written by another."""

Step = Callable[[str], None]
"""Says what is done now; raises when the export is no longer wanted."""


def request_export(
    session: Session,
    job: JobRecord,
    which: str,
    *,
    formats: Sequence[str],
    quantize: str,
    now: float,
    allow_partial: bool = False,
    licence: str | None = None,
    data_dir: Path | None = None,
) -> ArtefactRecord:
    """Queues the export of a trial, named by number (`7`, `R1`) or by its place on the front (`knee`, ...).

    An equal request that waits, is being written or stands ready below `data_dir` is answered with that.

    Raises:
        InvalidInputError: unknown format, quantization or pick, or an empty front.
        ConflictError: the job goes on or the trial is half trained, and partial exports are not allowed.
    """
    check_formats(formats)
    if quantize not in QUANTIZE:
        raise InvalidInputError(f"unknown quantization '{quantize}'; {nearest(quantize, QUANTIZE)}")
    trial = chosen_trial(session, job, which)
    _require_trained(job, trial, allow_partial=allow_partial)
    request = {
        "formats": sorted(set(formats)),
        "quantize": quantize,
        "license": licence,
        "stage": "final" if trial.final else "search",
        "steps": trial.final.steps if trial.final else trial.steps,
        "version": EXPORTER_VERSION,
    }
    for one in artefacts.list_for_job(session, job.id, trial.number):
        if one.request == request and _still_good(one, data_dir):
            return one
    return artefacts.create(session, job_id=job.id, trial=trial.number, request=request, now=now)


def chosen_trial(session: Session, job: JobRecord, which: str) -> TrialRecord:
    """The trial a person means by a number, `R1`, or a pick of the front."""
    text = which.strip()
    digits = text.removeprefix("-").removeprefix("R").removeprefix("r")
    if digits.isdecimal() and digits.isascii():
        number = int(digits[:9]) if digits == text else -int(digits[:9])
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
    """Writes, verifies and publishes one claimed export; a failure is recorded, not raised.

    An export that was cancelled or taken over meanwhile is returned as it stands.
    """
    name = f"exports/{artefact.id}"
    final = database.data_dir / name
    for abandoned in final.parent.glob(f"{artefact.id}.*.draft"):
        shutil.rmtree(abandoned, ignore_errors=True)
    draft = final.with_name(f"{artefact.id}.{uuid4().hex[:8]}.draft")
    try:
        with Claim(database, artefact, clock) as claim:
            report = _write(database, artefact, draft, claim.step)
            digest = folder_digest(draft)
            size = sum(file.stat().st_size for file in draft.iterdir())
            claim.step("publishing")
            shutil.rmtree(final, ignore_errors=True)
            os.replace(draft, final)
            store_of(database).publish(name)
            return claim.end("ready", path=name, size_bytes=size, sha256=digest, report=report)
    except ClaimLostError:
        shutil.rmtree(draft, ignore_errors=True)
        return _left(database, artefact, final)
    except Exception as error:  # the border of a background task: whatever went wrong belongs in the row
        shutil.rmtree(draft, ignore_errors=True)
        if not isinstance(error, ServiceError):
            log.exception("export failed", extra={"export": artefact.id})
        try:
            with Claim(database, artefact, clock) as claim:
                return claim.end("failed", message=_message(error, artefact.request["formats"]))
        except ClaimLostError:
            return _left(database, artefact, final)


class ClaimLostError(Exception):
    """The export was cancelled, or another writes it."""


class Claim:
    """The right to write one export, kept alive by a thread of its own while it is written."""

    def __init__(self, database: Database, artefact: ArtefactRecord, clock: Clock) -> None:
        self._database, self._artefact, self._clock = database, artefact, clock
        self._owner = owner_name()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"export-{artefact.id[:8]}", daemon=True)

    def step(self, words: str | None) -> None:
        """Says what is done now, for whoever watches.

        Raises:
            ClaimLostError: the work is to be dropped.
        """
        try:
            with self._database.write() as session:
                artefacts.note(
                    session, self._artefact.id, self._owner, lease_s=EXPORT_LEASE_S, step=words,
                    now=self._clock.time(),
                )  # fmt: skip
        except ConflictError as error:
            raise ClaimLostError from error

    def end(self, state: ArtefactState, **found: Any) -> ArtefactRecord:
        """
        Raises:
            ClaimLostError: the work is to be dropped.
        """
        try:
            with self._database.write() as session:
                return artefacts.set_state(
                    session, self._artefact.id, state, owner=self._owner, now=self._clock.time(), **found
                )
        except ConflictError as error:
            raise ClaimLostError from error

    def _beat(self) -> None:
        while not self._stop.wait(EXPORT_LEASE_S / 3):
            try:
                self.step(None)
            except ClaimLostError:
                return  # the writer notices at its next step
            except Exception:  # the next beat may reach the database again
                log.exception("beat failed", extra={"export": self._artefact.id})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)


def publish_to(database: Database, artefact: ArtefactRecord, out: Path) -> None:
    """Copies a ready export into a new or empty folder.

    Raises:
        InvalidInputError: the folder has something in it, or cannot be written.
        ArtefactMissingError: the files are not those that were published.
    """
    check_folder(out)
    if artefact.state != "ready" or artefact.path is None:
        raise ConflictError(f"export {artefact.id} is {artefact.state}: {artefact.message or 'not ready'}")
    store_of(database).fetch(artefact.path)
    contents = published_files(database.data_dir, artefact)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            (out / name).write_bytes(data)
    except OSError as error:
        raise InvalidInputError(f"'{out}' cannot be written: {error.strerror}") from error


def check_folder(out: Path) -> None:
    """Raises InvalidInputError unless `out` is free to be written: new, or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInputError(f"'{out}' exists and is not an empty folder; name a new one")


def _require_trained(job: JobRecord, trial: TrialRecord, *, allow_partial: bool) -> None:
    if trial.state != "completed" and not (allow_partial and trial.steps):
        raise ConflictError(
            f"trial {trial.label} is {trial.state} after {trial.steps} steps; "
            "only completed trials are exported, others with allow_partial"
        )
    if job.state not in FINAL_JOB_STATES and not allow_partial:
        raise ConflictError(
            f"job {job.id[:8]} is {job.state}: its finalists may still replace these weights; "
            "wait for its end, or export with allow_partial"
        )


def _still_good(artefact: ArtefactRecord, data_dir: Path | None) -> bool:
    if artefact.state == "ready":
        return data_dir is not None and looks_whole(data_dir, artefact)
    return artefact.state not in ENDED


def _left(database: Database, artefact: ArtefactRecord, final: Path) -> ArtefactRecord:
    """The row of an export that is no longer this writer's, and nothing of it on disk unless it is ready."""
    with database.read() as session:
        row = artefacts.get(session, artefact.id)
    if row.state in ("cancelled", "failed"):
        shutil.rmtree(final, ignore_errors=True)
    return row


def _message(error: Exception, formats: Sequence[str]) -> str:
    if not isinstance(error, ServiceError):
        return f"{type(error).__name__}: {error}"
    if isinstance(error, UnsupportedError):
        others = [name for name in FORMATS if name not in formats]
        offered = f"formats {', '.join(others)} remain" if others else "ask for one format at a time"
        return f"unsupported_operator: {error.message}; {offered}"
    return error.message


def _write(database: Database, artefact: ArtefactRecord, draft: Path, step: Step) -> dict[str, Any]:
    with database.read() as session:
        job = jobs.get(session, artefact.job_id)
        trial = trials.get(session, artefact.job_id, artefact.trial)
        references = [row for row in trials.all_trials(session, artefact.job_id) if row.number < 0]
    plan = stored_plan(job, store_of(database))
    architecture = parse_architecture(trial.architecture)
    source = _checkpoint(database, plan, job, trial)
    step("writing the files")
    model = build_model(architecture, seed=0)
    load_weights(model, store_of(database).fetch(f"training/{source.detail['checkpoint']}"))
    model.eval()
    request = artefact.request
    exported = write_folder(
        model,
        architecture,
        draft,
        formats=request["formats"],
        quantize=request["quantize"],
        preprocessing=plan.data.preprocessing,
        calibration=_calibration(architecture, plan, request["quantize"]),
        card=card(job, trial, references, plan, source, request.get("license")),
    )
    verification = verify_export(exported, model, on_file=lambda name: step(f"verifying {name}"))
    figures = measured_files(
        exported, model, plan.data, plan.target, scratch=database.data_dir / "latency",
        on_file=lambda name: step(f"measuring {name}"),
    )  # fmt: skip
    _add_to_card(draft, measured_part(figures, plan.quality, plan.target))
    report = {
        **origin(job, trial, source),
        "formats": list(request["formats"]),
        "quantize": request["quantize"],
        "target": asdict(plan.target),
        "verification": verification,
        "files": figures,
        "versions": device_facts(),
        "sha256": {path.name: _sha256(path) for path in sorted(draft.iterdir())},
    }
    (draft / REPORT).write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return report


def _add_to_card(folder: Path, part: str) -> None:
    """What only the written files tell, before the list of them."""
    if part:
        path = folder / "README.md"
        text = path.read_text(encoding="utf-8")
        path.write_text(
            text.replace("## Inputs and outputs\n", f"{part}\n\n## Inputs and outputs\n", 1), encoding="utf-8"
        )


def _calibration(architecture: Architecture, plan: JobPlan, quantize: str) -> Tensor | None:
    """Training inputs where a number format, or static int8, fixes something from data."""
    if quantize == "int8-static":
        return torch.from_numpy(calibration_batch(plan.data))
    return calibration_of(architecture, plan.data)


def _checkpoint(database: Database, plan: JobPlan, job: JobRecord, trial: TrialRecord) -> MeasurementRecord:
    """The training the trial's numbers come from: the finalist's first seed where there is one.

    Raises:
        ConflictError: its weights are gone.
    """
    training = taught(plan.finalist_training, job.context) if trial.final else plan.training
    mark, first = training_fingerprint(plan.data, training), plan.spec.strategy.seed
    for seed in final_seeds(plan) if trial.final else (first,):
        with database.read() as session:
            row = measurements.find(
                session, trial.training_id, plan.quality, mark, seed=seed,
                fidelity=training.steps if trial.final else trial.steps,
            )  # fmt: skip
        name = str(row.detail.get("checkpoint") or "") if row else ""
        if row is not None and name and store_of(database).has(f"training/{name}"):
            return row
    raise ConflictError(
        f"the weights of trial {trial.label} are no longer in {database.data_dir.name}/training; "
        "run the job again (what is stored is not computed twice)"
    )


def final_seeds(plan: JobPlan) -> tuple[int, ...]:
    """Seeds that a finalist's trainings may have, as `FinalStage` gives them; older jobs began with the
    search's own."""
    first = plan.spec.strategy.seed
    return (*range(first + 1, first + plan.spec.finalists.seeds + 1), first)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


__all__ = [
    "QUANTIZE",
    "check_folder",
    "chosen_trial",
    "publish_to",
    "request_export",
    "run_export",
    "run_next_export",
]
