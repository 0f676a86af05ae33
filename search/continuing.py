"""A job that goes on where another one ended: its settings, changed, and a warm start from it.

Under the same conditions the earlier front is tried first, answered from what is stored, and every earlier
result is history; on another target or task as much is taken over as holds there (`search.warm_start`).
"""

from collections.abc import Sequence
from dataclasses import replace

from .given import check_question
from .job import parse_job
from .own_teacher import is_kept, stored_teacher
from .plan import JobPlan, plan_job
from .records import DATASET_PATH, OWN_TEACHER, JobRecord
from .workers.store import Store


def continued_plan(job: JobRecord, overrides: Sequence[str], store: Store) -> JobPlan:
    """The plan of a new job with the settings of `job`, changed by `overrides`.

    Raises:
        InvalidInputError: an override that cannot be, or a teacher of another task than the new one's, or
        no longer kept, neither here nor in its folder.
    """
    spec = parse_job({**job.spec, "enqueue": [], "warm_start": job.id}, overrides)
    path = job.context.get(DATASET_PATH)
    is_same_data = spec.task.dataset == job.spec["task"]["dataset"]
    kept = path if is_same_data else None
    teacher = job.context.get(OWN_TEACHER)
    is_same_teacher = spec.finalists.teacher == job.spec["finalists"].get("teacher")
    if teacher and not (is_same_teacher and is_kept(stored_teacher(teacher), store)):
        teacher = None  # then the folder is read
    plan = plan_job(
        spec,
        own=job.context.get("own_references") or (),
        teacher=teacher,
        dataset=None if kept is None else store.fetch_file(kept),
    )
    if plan.teacher:
        check_question(f"finalists.teacher: '{plan.teacher.name}'", plan.teacher.architecture, plan.data)
    return replace(plan, dataset_path=kept)
