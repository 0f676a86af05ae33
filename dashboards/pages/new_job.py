"""The form of a new job, and the way from its fields to the plain data of a job file.

The browser sends flat text fields. `mode` says whether the fields or the text in `yaml` count. Nothing is
judged here: `search.job.parse_job` does, and its problems come back as `problems`.
"""

import typing
from collections.abc import Mapping, Sequence
from typing import Any

from evaluators.training import BUILT_IN
from search.job import JobSpec, StrategySpec, TargetSpec, TaskKind, read_yaml
from search.objectives import OBJECTIVES
from space.search_space import preset_names

from .environment import render

COSTS = ("latency_s", "memory_bytes", "params")
TASK_WORDS: Mapping[str, str] = {
    "language-model": "predict the next byte of a text",
    "image": "classify images",
    "text-classification": "classify texts",
    "sequence": "classify sequences of values",
}
RUNTIME_WORDS: Mapping[str, str] = {"onnxruntime": "ONNX Runtime", "eager": "PyTorch, eager"}
STRATEGY_WORDS: Mapping[str, str] = {
    "random": "random",
    "nsga2": "NSGA-II, asynchronous",
    "tpe": "TPE (Optuna)",
}


def default_form() -> dict[str, str]:
    """The fields as a new form shows them: the defaults of `JobSpec`."""
    spec = JobSpec()
    return {
        "mode": "form",
        "name": "my search",
        "task_kind": spec.task.kind,
        "dataset": spec.task.dataset,
        "preset": "",
        "objective_latency_s": "on",
        "objective_memory_bytes": "",
        "objective_params": "",
        "max_params": "",
        "max_latency_ms": "",
        "max_memory_mib": "",
        "runtime": spec.target.runtime,
        "threads": str(spec.target.threads),
        "batch_size": str(spec.target.batch_size),
        "strategy": spec.strategy.kind,
        "seed": str(spec.strategy.seed),
        "trials": str(spec.budget.trials),
        "time": "",
        "steps": str(spec.training.steps),
        "references": str(spec.references.sizes),
        "finalists_count": str(spec.finalists.count),
        "finalists_seeds": str(spec.finalists.seeds),
        "finalists_steps": str(spec.finalists.steps),
        "yaml": "",
    }


def new_job_page(
    form: Mapping[str, str] | None = None, problems: Sequence[str] = (), *, example: str = "", csrf: str = ""
) -> str:
    """HTML of `/jobs/new`. `form`: what was sent before, shown again beside its `problems`."""
    blank = default_form()
    if form is not None:
        blank |= {name: "" for name in blank if name.startswith("objective_")}
    fields = {**blank, **{name: value for name, value in (form or {}).items() if name in blank}}
    return render(
        "new_job.html",
        here="new",
        form=fields,
        problems=problems,
        example=example,
        csrf=csrf,
        task_kinds=[(kind, TASK_WORDS.get(kind, kind)) for kind in typing.get_args(TaskKind)],
        datasets=sorted(BUILT_IN),
        presets=[("", "the small one of the task"), *((name, name) for name in preset_names())],
        costs=[(key, OBJECTIVES[key].label) for key in COSTS],
        runtimes=_options(TargetSpec, "runtime", RUNTIME_WORDS),
        strategies=_options(StrategySpec, "kind", STRATEGY_WORDS),
    )


def job_data(form: Mapping[str, str]) -> object:
    """The sent form -> plain data for `search.job.parse_job`.

    Raises:
        InvalidInputError: `mode` is yaml and the text is not YAML.
    """
    if form.get("mode") == "yaml":
        return read_yaml(form.get("yaml", "").encode(), "the job text")
    task = _filled(kind=form.get("task_kind"), dataset=form.get("dataset"))
    costs = [key for key in COSTS if form.get(f"objective_{key}")]
    data: dict[str, Any] = {
        "task": task,
        "space": _filled(preset=form.get("preset")),
        "objectives": ["quality", *costs],
        "target": _filled(
            runtime=form.get("runtime"), threads=form.get("threads"), batch_size=form.get("batch_size")
        ),
        "constraints": _constraints(form),
        "strategy": _filled(kind=form.get("strategy"), seed=form.get("seed")),
        "training": _filled(steps=form.get("steps")),
        "references": _filled(sizes=form.get("references")),
        "finalists": _filled(
            count=form.get("finalists_count"),
            seeds=form.get("finalists_seeds"),
            steps=form.get("finalists_steps"),
        ),
        "budget": _filled(trials=form.get("trials"), time=form.get("time")),
    }
    return {**_filled(name=form.get("name")), **{key: value for key, value in data.items() if value}}


def _constraints(form: Mapping[str, str]) -> dict[str, object]:
    """Limits in the units of a job file; what is no number goes on as text, for the parser to name."""
    scales = {
        "params": ("max_params", 1.0),
        "latency_s": ("max_latency_ms", 1e-3),
        "memory_bytes": ("max_memory_mib", 2.0**20),
    }
    limits: dict[str, object] = {}
    for key, (name, scale) in scales.items():
        text = form.get(name, "").strip()
        if not text:
            continue
        try:
            limits[key] = float(text) * scale
        except ValueError:
            limits[key] = text
    return limits


def _filled(**fields: str | None) -> dict[str, str]:
    """Without empty fields: the default of the job file holds for them."""
    return {name: value.strip() for name, value in fields.items() if value and value.strip()}


def _options(model: Any, field: str, words: Mapping[str, str]) -> list[tuple[str, str]]:
    values = typing.get_args(model.model_fields[field].annotation)
    return [(value, words.get(value, value)) for value in values]
