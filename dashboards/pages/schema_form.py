"""A form from the JSON Schema of a job: every setting of `JobSpec`, also those that are newer than this file.

A field's name is its path in the job file (`budget.trials`), so that a problem of the parser, which begins
with the path, finds its field. Words and order of the usual fields stand here; any other is said by its own
name and description, folded away.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from search.job import TEACHERS, JobSpec
from space.search_space import preset_names

Kind = Literal["text", "number", "choice", "yaml"]

GROUPS: Mapping[str, str] = {
    "task": "What is learned",
    "space": "Which architectures",
    "objectives": "What matters",
    "target": "Where the model will run",
    "strategy": "How it searches",
    "training": "How trials are trained",
    "references": "What it is compared with",
    "finalists": "What is trained again at the end",
    "budget": "How much to spend",
}
"""Titles of the groups in their order; a group that is not here comes after them under its own name."""
WORDS: Mapping[str, tuple[str, str]] = {
    "name": ("Name of the job", ""),
    "task.kind": ("Task", ""),
    "task.dataset": ("Data set", ""),
    "space.preset": ("Search space", ""),
    "target.runtime": ("Runtime on the CPU", ""),
    "target.threads": ("Threads", ""),
    "target.batch_size": ("Batch size", ""),
    "strategy.kind": ("Strategy", ""),
    "strategy.seed": ("Seed of the search", ""),
    "training.steps": ("Training steps", "of a trial's last rung"),
    "references.sizes": ("Sizes of each reference", ""),
    "finalists.count": ("Finalists", "trained again at the end"),
    "finalists.seeds": ("Seeds per finalist", ""),
    "finalists.steps": ("Steps per finalist", "below 1,000 the report is a demonstration"),
    "budget.trials": ("Trials", "architectures that get trained"),
    "budget.time": ("Time at most", "45m, 2h; empty: no limit"),
}
"""Label and hint of the fields every reader sees."""
VALUE_WORDS: Mapping[str, Mapping[str, str]] = {
    "task.kind": {
        "language-model": "predict the next byte of a text",
        "image": "classify images",
        "text-classification": "classify texts",
        "sequence": "classify sequences of values",
    },
    "target.runtime": {
        "onnxruntime": "ONNX Runtime",
        "eager": "PyTorch, eager",
        "torch-compile": "PyTorch, compiled",
        "cudagraph": "PyTorch, CUDA graph",
    },
    "strategy.kind": {
        "surrogate": "surrogate models and evolution",
        "nsga2": "NSGA-II, asynchronous",
        "nsga3": "NSGA-III, for four objectives and more",
        "regularized_evolution": "regularized evolution",
        "pareto_evolution": "evolution of the front",
        "tpe": "TPE (Optuna)",
        "gp": "Gaussian process (Optuna), genes of all layers",
        "boshnas": "gradients of small networks (BOSHNAS)",
        "entropy": "largest entropy first, then NSGA-II",
        "local_search": "neighbours of the front",
        "stratified": "random, spread over size",
        "random": "random",
    },
}
OMITTED = frozenset({"schema_version", "objectives", "constraints", "enqueue"})
"""Said elsewhere in the form, or not to be said over HTTP."""
DURATIONS = frozenset({"budget.time", "limits.trial_timeout"})


@dataclass(frozen=True, slots=True)
class FormField:
    """One setting: `name` is its path; `value` what stands in it, `problem` what is wrong with that."""

    name: str
    label: str
    hint: str
    kind: Kind
    value: str
    options: tuple[tuple[str, str], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    is_usual: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FormGroup:
    """Fields that belong together; the unusual ones are folded away."""

    name: str
    title: str
    usual: tuple[FormField, ...]
    more: tuple[FormField, ...]


def form_fields() -> list[FormField]:
    """Every setting of a job file with its default, in the order of the schema."""
    schema = JobSpec.model_json_schema()
    return list(_fields(schema, schema["$defs"], JobSpec().model_dump(mode="json"), ""))


def form_groups(fields: Sequence[FormField]) -> list[FormGroup]:
    """The fields by their first key; single keys of the job file (`name`) are in the group '', the first."""
    keys = dict.fromkeys(["", *GROUPS, *(_group(field) for field in fields)])
    groups = []
    for key in keys:
        members = [field for field in fields if _group(field) == key]
        groups.append(
            FormGroup(
                key,
                GROUPS.get(key, key.replace("_", " ").capitalize() or "The job"),
                tuple(field for field in members if field.is_usual),
                tuple(field for field in members if not field.is_usual),
            )
        )
    return groups


def filled(fields: Sequence[FormField], form: Mapping[str, str]) -> list[FormField]:
    """The fields with the values that were sent; what was not sent keeps its default."""
    return [replace(field, value=form.get(field.name, field.value)) for field in fields]


def with_problems(
    fields: Sequence[FormField], problems: Sequence[str]
) -> tuple[list[FormField], list[tuple[str, str]]]:
    """The fields with their problems, and every problem as (name of its field or '', text)."""
    names = sorted((field.name for field in fields), key=len, reverse=True)
    placed = []
    for problem in problems:
        path = problem.partition(":")[0].strip()
        owner = next((name for name in names if path == name or path.startswith(f"{name}.")), "")
        placed.append((owner, problem))
    said = {
        name: "; ".join(text.partition(":")[2].strip() or text for owner, text in placed if owner == name)
        for name, _ in placed
        if name
    }
    return [replace(field, problem=said.get(field.name, "")) for field in fields], placed


def _group(field: FormField) -> str:
    return field.name.partition(".")[0] if "." in field.name else ""


def _fields(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str
) -> Iterator[FormField]:
    for key, part in schema["properties"].items():
        path = f"{prefix}{key}"
        if path in OMITTED or "const" in part or part.get("type") == "null":
            continue
        if "$ref" in part:
            inner = definitions[part["$ref"].rpartition("/")[2]]
            yield from _fields(inner, definitions, defaults[key], f"{path}.")
        else:
            yield _field(path, key, part, defaults[key])


def _field(path: str, key: str, part: Mapping[str, Any], default: object) -> FormField:
    label, hint = WORDS.get(path, (key.replace("_", " "), str(part.get("description", ""))))
    kinds = [one for one in part.get("anyOf", [part]) if one.get("type") != "null"]
    made = FormField(path, label, hint, "text", _shown(default), is_usual=path in WORDS)
    if path == "space.preset":
        options = (("", "the small one of the task"), *((name, name) for name in preset_names()))
        return replace(made, kind="choice", options=options)
    if path == "finalists.teacher":  # a folder cannot be named over HTTP
        return replace(made, kind="choice", options=tuple((name, name) for name in TEACHERS))
    if len(kinds) == 1 and "enum" in kinds[0]:
        words = VALUE_WORDS.get(path, {})
        values = [str(value) for value in kinds[0]["enum"]]
        return replace(
            made, kind="choice", options=tuple((value, words.get(value, value)) for value in values)
        )
    if len(kinds) == 1 and kinds[0].get("type") == "boolean":
        return replace(made, kind="choice", options=(("true", "yes"), ("false", "no")))
    if len(kinds) > 1 or kinds[0].get("type") in ("object", "array"):
        return replace(made, kind="yaml", hint=f"{hint}, as YAML".lstrip(", "))
    if kinds[0].get("type") in ("integer", "number") and path not in DURATIONS:
        low, high = kinds[0].get("minimum", kinds[0].get("ge")), kinds[0].get("maximum", kinds[0].get("le"))
        return replace(made, kind="number", minimum=low, maximum=high)
    return made


def _shown(default: object) -> str:
    """A default as text; what is nothing by default is empty."""
    if default is None or default in ({}, [], ()):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)
