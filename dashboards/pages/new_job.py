"""The page of a new job: a form from the job file's schema, and beside it what the job would do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evaluators.training import tasks
from search.job import JobSpec
from search.objectives import OBJECTIVES

from ..drawing import draw_architecture
from ..summary import count_words
from ..wording import describe, duration, shown
from .environment import render
from .job_form import LIMITS, USUAL_COSTS, default_form
from .schema_form import filled, form_fields, form_groups, with_problems

SHOWN_COSTS = ("params", "macs", "memory_bytes")


@dataclass(frozen=True, slots=True)
class Preview:
    """What a job would do. `estimate`: seconds on one core by part, where somebody asked for them."""

    space_size: str
    references: Sequence[str]
    warnings: Sequence[str]
    examples: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]]
    """Architectures with their closed-form costs."""
    steps: Sequence[tuple[str, int]]
    """Training steps by part of the job."""
    estimate: Mapping[str, Any] | None = None


def planned_steps(spec: JobSpec, reference_trainings: int) -> list[tuple[str, int]]:
    """Training steps of the search, the references and the finalists if every promotion happens."""
    rungs = spec.training.rung_steps()
    search = sum(
        spec.budget.trials / spec.training.reduction**rung * (steps - before)
        for rung, (steps, before) in enumerate(zip(rungs, (0, *rungs), strict=False))
    )
    finalists = 2 * spec.finalists.count * spec.finalists.seeds * spec.finalists.steps
    return [
        ("the search", round(search)),
        ("references", reference_trainings * spec.training.steps),
        ("finalists, and as many references", finalists),
    ]


def new_job_page(
    form: Mapping[str, str] | None = None,
    problems: Sequence[str] = (),
    *,
    example: str = "",
    csrf: str = "",
    datasets: Sequence[str] = (),
    uploads: Sequence[tuple[str, str]] = (),
    written: str = "",
    command: str = "",
    preview: Preview | None = None,
) -> str:
    """HTML of `/jobs/new`. `form`: what was sent before, shown again with its `problems` at their fields.

    `datasets`: names the server offers beside the built-in ones. `uploads`: (name in jobs, name of the file)
    of what was uploaded before. `written` and `command`: YAML and curl of
    what the form says; `preview`: what it would do.
    """
    blank = default_form()
    if form is not None:
        blank |= {name: "" for name in blank if name.startswith("objective.")}
    sent = {**blank, **{name: value for name, value in (form or {}).items() if name in blank}}
    fields, placed = with_problems(filled(form_fields(), sent), problems)
    fields = [
        replace(field, hint=_dataset_hint(datasets)) if field.name == "task.dataset" else field
        for field in fields
    ]
    return render(
        "new_job.html",
        here="new",
        form=sent,
        groups=form_groups(fields),
        problems=placed,
        example=example,
        csrf=csrf,
        datasets=[*((name, "") for name in sorted({*tasks(), *datasets})), *uploads],
        costs=[(key, OBJECTIVES[key].label) for key in USUAL_COSTS],
        limits=[(key, words) for key, (words, _) in LIMITS.items()],
        written=written,
        command=command,
        preview=preview_html(preview) if preview else "",
    )


def preview_html(preview: Preview) -> str:
    """The part of the page that follows the fields."""
    estimate = preview.estimate or {}
    times = [
        (name, duration(float(estimate[key])))
        for name, key in (
            ("the search", "search_s"),
            ("references", "references_s"),
            ("finalists", "finalists_s"),
        )
        if key in estimate
    ]
    return render(
        "fragments/preview.html",
        size=count_words(preview.space_size),
        references=preview.references,
        warnings=preview.warnings,
        steps=preview.steps,
        times=times,
        basis=estimate.get("basis", ""),
        examples=[
            {
                "what": describe(architecture),
                "svg": draw_architecture(architecture, key=str(place)),
                "costs": [
                    (OBJECTIVES[key].label, shown(key, costs[key])) for key in SHOWN_COSTS if key in costs
                ],
            }
            for place, (architecture, costs) in enumerate(preview.examples)
        ],
    )


def _dataset_hint(datasets: Sequence[str]) -> str:
    offered = f"; here also {', '.join(sorted(datasets))}" if datasets else ""
    return f"a built-in name ({', '.join(sorted(tasks()))}), or a name the server offers{offered}"


def placed_problems(problems: Sequence[str]) -> list[tuple[str, str]]:
    """Every problem as (name of its field or '', text)."""
    return with_problems(form_fields(), problems)[1]
