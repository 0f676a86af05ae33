"""Pieces of work as the stages of a job hand them to workers: trainings and whole-model measurements."""

from collections.abc import Mapping
from typing import Any

from evaluators.protocol import Measurement
from space.architecture import Architecture

from .ledger import Ledger
from .records import TrialRecord
from .workers.work import Work


def training_work(
    ledger: Ledger,
    architecture: Architecture,
    plan: Mapping[str, Any],
    *,
    repeat: int,
    until: int,
    teacher: str | None = None,
) -> Work:
    """Training of an fp32 form to `until` steps of a schedule; equal weights share a key, whoever asks.
    `teacher`: JSON of the architecture behind the checkpoint that the plan names. A finalist takes more steps
    at once than a trial in all, and has as much more time."""
    spec = ledger.plan.spec
    timeout_s = spec.limits.trial_timeout * max(1.0, until / spec.training.steps)
    seed = ledger.training_seed(repeat)
    payload = {
        "architecture": architecture.canonical_json,
        "plan": dict(plan),
        "seed": seed,
        "until": until,
        "teacher": teacher,
    }
    key = f"train/{architecture.id}/{plan['steps']}/{seed}"
    return Work(key, "train", payload, timeout_s)


def measuring_work(
    ledger: Ledger,
    trial: TrialRecord,
    *,
    mark: str,
    steps: int,
    repeat: int,
    final: bool = False,
    with_latency: bool = True,
) -> Work | Mapping[str, Measurement] | None:
    """Work that measures a trained trial in its number formats; the stored numbers when all are known; None
    when its checkpoint is gone."""
    stored = ledger.measured(
        trial, mark=mark, steps=steps, repeat=repeat, final=final, with_latency=with_latency
    )
    if stored is not None:
        return stored
    checkpoint = ledger.checkpoint(trial.training_id, mark=mark, steps=steps, repeat=repeat)
    if checkpoint is None:
        return None
    payload = {
        "architecture": ledger.architecture(trial).canonical_json,
        "checkpoint": checkpoint,
        "parts": ["validation", "test"] if final else ["validation"],
        "latency": with_latency and ledger.latency(trial, final=final) is None,
    }
    key = f"measure/{trial.architecture_id}/{steps}/{repeat}"
    return Work(key, "measure", payload, ledger.plan.spec.limits.trial_timeout)
