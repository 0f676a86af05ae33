"""From the sent form of a new job to the plain data of a job file, its YAML and the command that sends it.

Nothing is judged here: `search.job.parse_job` does.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from search.job import JobSpec, read_yaml
from search.objectives import OBJECTIVES

from .schema_form import form_fields

COSTS = tuple(key for key, objective in OBJECTIVES.items() if objective.source != "quality")
USUAL_COSTS = ("latency_s", "memory_bytes", "params", "macs")
LIMITS: Mapping[str, tuple[str, float]] = {
    "params": ("parameters", 1.0),
    "latency_s": ("latency (ms)", 1e-3),
    "memory_bytes": ("memory (MiB)", 2.0**20),
}
"""Constraint -> words with the unit of the form, and that unit in the job file's."""


def default_form() -> dict[str, str]:
    """The fields as a new form shows them: the defaults of `JobSpec`."""
    chosen = JobSpec().objectives
    return {
        "written_as": "form",
        **{field.name: field.value for field in form_fields()},
        "name": "my search",
        **{f"objective.{key}": "on" if key in chosen else "" for key in USUAL_COSTS},
        **{f"constraints.{key}": "" for key in LIMITS},
        "yaml": "",
    }


def job_data(form: Mapping[str, str]) -> object:
    """The sent form -> plain data for `search.job.parse_job`.

    Raises:
        InvalidInputError: a text that has to be YAML is not.
    """
    if form.get("written_as") == "yaml":
        return read_yaml(form.get("yaml", "").encode(), "the job text")
    data: dict[str, Any] = {}
    for field in form_fields():
        text = form.get(field.name, "").strip()
        if not text:
            continue
        value: object = read_yaml(text.encode(), field.name) if field.kind == "yaml" else text
        if text == field.value and field.kind == "yaml":
            continue
        _put(data, field.name.split("."), value)
    data["objectives"] = ["quality", *(key for key in USUAL_COSTS if form.get(f"objective.{key}"))]
    constraints = _constraints(form)
    if constraints:
        data["constraints"] = constraints
    return data


def job_yaml(data: object) -> str:
    """The data as the text of a job file; numbers stand without quotes."""
    text: str = yaml.safe_dump(_numbers(data), sort_keys=False, allow_unicode=True, width=100)
    return text


def curl_command(data: object, base: str) -> str:
    """The same job sent from a shell."""
    body = json.dumps(_numbers(data), ensure_ascii=False)
    return (
        f"curl -X POST {shlex.quote(base + '/v1/jobs')} -H 'Content-Type: application/json' \\\n"
        f"     -d {shlex.quote(body)}"
    )


def _put(data: dict[str, Any], path: list[str], value: object) -> None:
    for key in path[:-1]:
        data = data.setdefault(key, {})
    data[path[-1]] = value


def _constraints(form: Mapping[str, str]) -> dict[str, object]:
    """Limits in the units of a job file; what is no number goes on as text, for the parser to name."""
    limits: dict[str, object] = {}
    for key, (_, scale) in LIMITS.items():
        text = form.get(f"constraints.{key}", "").strip()
        if text:
            number = _number(text)
            limits[key] = number * scale if isinstance(number, (int, float)) else text
    return limits


def _numbers(value: object) -> object:
    """Numbers and yes or no of form fields as what they are, for reading; the parser takes both."""
    if isinstance(value, Mapping):
        return {key: inner if key == "name" else _numbers(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numbers(inner) for inner in value]
    return _number(value) if isinstance(value, str) else value


def _number(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
