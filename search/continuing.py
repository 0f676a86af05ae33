"""A job that goes on where another one ended: its settings, changed, and a warm start from it.

Under the same conditions the earlier front is tried first, answered from what is stored, and every earlier
result is history; on another target or task as much is taken over as holds there (`search.warm_start`).
"""

from collections.abc import Sequence
from dataclasses import replace

from .job import parse_job
from .plan import JobPlan, plan_job
from .records import DATASET_PATH, OWN_TEACHER, JobRecord
from .workers.store import Store


def continued_plan(job: JobRecord, overrides: Sequence[str], store: Store) -> JobPlan:
    """The plan of a new job with the settings of `job`, changed by `overrides`.

    Raises:
        InvalidInputError: an override that cannot be.
    """
    spec = parse_job({**job.spec, "enqueue": [], "warm_start": job.id}, overrides)
    path = job.context.get(DATASET_PATH)
    is_same_data = spec.task.dataset == job.spec["task"]["dataset"]
    kept = path if is_same_data else None
    is_same_teacher = spec.finalists.teacher == job.spec["finalists"].get("teacher")
    plan = plan_job(
        spec,
        own=job.context.get("own_references") or (),
        teacher=job.context.get(OWN_TEACHER) if is_same_teacher else None,
        dataset=None if kept is None else store.fetch_file(kept),
    )
    return replace(plan, dataset_path=kept)
