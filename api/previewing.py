"""What a sent form would do: its job file in words, its problems, and a quick or a timed preview.

The quick preview draws and counts; only the timed one trains a few steps, which takes seconds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from dashboards import Preview, curl_command, job_data, job_yaml, planned_steps
from search.plan import JobPlan, static_values
from search.preview import preview_of
from space.errors import InvalidInputError
from space.sampling import sample

from .deps import Services
from .submission import plan_submission

EXAMPLES = 3
PATIENCE_S = 1.0
BUSY = "another preview or score is being computed; try again in a few seconds"


@dataclass(frozen=True, slots=True)
class FormAnswer:
    """What the page shows beside the form."""

    written: str = ""
    command: str = ""
    problems: list[str] = field(default_factory=list)
    preview: Preview | None = None
    is_busy: bool = False
    """Another preview was being computed, and this one was not."""


def answer_form(held: Services, form: Mapping[str, str], base: str, tenant: str) -> FormAnswer:
    """The form as a job file, what is wrong with it, and what it would do; one preview at a time."""
    try:
        data = job_data(form)
    except InvalidInputError as error:
        return FormAnswer(problems=problems_of(error))
    written, command = job_yaml(data), curl_command(data, base)
    if not held.heavy.acquire(timeout=PATIENCE_S):
        return FormAnswer(written, command, [BUSY], is_busy=True)
    try:
        plan = plan_submission(data, held, tenant)
        preview = preview_plan(plan, timed=bool(form.get("estimate")))
    except InvalidInputError as error:
        return FormAnswer(written, command, problems_of(error))
    finally:
        held.heavy.release()
    return FormAnswer(written, command, [], preview)


def written_form(form: Mapping[str, str], base: str) -> FormAnswer:
    """Only the job file and the command, without a look at the data."""
    data = job_data(form)
    return FormAnswer(job_yaml(data), curl_command(data, base))


def preview_plan(plan: JobPlan, *, timed: bool) -> Preview:
    """The same examples either way: they are drawn from the job's seed."""
    trainings = {reference.architecture.training_id for reference in plan.references}
    rng = Random(plan.spec.strategy.seed)
    examples = [sample(plan.space, rng) for _ in range(EXAMPLES)]
    return Preview(
        space_size=str(plan.space.size()),
        references=[reference.name for reference in plan.references],
        warnings=list(plan.warnings),
        examples=[
            (json.loads(one.canonical_json), dict(static_values(one, plan.target))) for one in examples
        ],
        steps=planned_steps(plan.spec, len(trainings)),
        estimate=preview_of(plan)["estimate"] if timed else None,
    )


def problems_of(error: InvalidInputError) -> list[str]:
    """One line each, the hint last."""
    return [*error.message.splitlines(), *([error.hint] if error.hint else [])]
