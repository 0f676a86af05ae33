"""Finalists of one's own choice: a second job that tries nothing new and retrains the picked trials.

Everything that the first job trained and measured is found in the database; what is computed is the final
stage: several seeds at the finalists' budget for the picks and for as many references.
"""

from collections.abc import Sequence
from dataclasses import replace

from evaluators.training import TrainingPlan
from space.architecture import parse_architecture
from space.errors import ConflictError, InvalidInputError

from .job import TRAINING_FREE, BudgetSpec, parse_job
from .own_teacher import is_kept, lost_teacher
from .plan import JobPlan
from .records import FINAL_JOB_STATES, JobRecord, TrialRecord
from .running import stored_plan
from .workers.store import Store


def retraining_plan(
    job: JobRecord,
    picks: Sequence[TrialRecord],
    store: Store,
    *,
    seeds: int | None = None,
    steps: int | None = None,
) -> JobPlan:
    """A job of the same task, target and references whose finalists are the picked trials.

    Raises:
        InvalidInputError: no pick, a reference, a job without training, or a number outside the job file's
        limits.
        ConflictError: the job goes on, its data have changed, or its teacher is no longer kept.
    """
    if job.state not in FINAL_JOB_STATES:
        raise ConflictError(f"job {job.id[:8]} is {job.state}; pick finalists when it has ended, or stop it")
    if job.spec.get("mode") == TRAINING_FREE:
        raise InvalidInputError(
            f"job {job.id[:8]} trains nothing; submit its picks as `enqueue` of a job that does"
        )
    if not picks:
        raise InvalidInputError("no trial is picked; name one or more, for example 3,7")
    for trial in picks:
        if trial.number < 0:
            raise InvalidInputError(f"trial {trial.label} is a reference, and those are retrained anyway")
        if trial.state != "completed":
            raise InvalidInputError(
                f"trial {trial.label} is {trial.state}; only completed trials are retrained"
            )
    plan = stored_plan(job, store)
    if plan.teacher and not is_kept(plan.teacher, store):
        raise ConflictError(lost_teacher(plan.teacher))
    finalists = {
        **plan.spec.finalists.model_dump(),
        "count": len(picks),
        "of": "enqueued",
        "tokens": None,
        **({"seeds": seeds} if seeds is not None else {}),
        **({"steps": steps} if steps is not None else {}),
    }
    spec = parse_job(
        {
            **plan.spec.model_dump(),
            "name": f"{job.name[:180]}: retrained",
            "enqueue": (),
            "warm_start": None,
            "finalists": finalists,
            "budget": BudgetSpec(trials=len(picks)).model_dump(),
            "training": {**plan.spec.training.model_dump(), "rungs": 1, "tokens": None},
        }
    )
    training = TrainingPlan(steps=spec.finalists.steps, batch_size=plan.training.batch_size)
    chosen = tuple(parse_architecture(trial.architecture) for trial in picks)
    return replace(plan, spec=spec, enqueued=chosen, finalist_training=training)
