"""An exported folder on this machine: latency and size of its files, quality where its data are at hand."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from evaluators.export_measures import file_quality, rounded_quality
from evaluators.latency import Target, measure_onnx
from evaluators.training import TaskData, prepare_task
from space.architecture import Architecture, parse_architecture
from space.costs import costs
from space.errors import InvalidInputError, ServiceError
from space.export import WEIGHTS, load_folder
from space.export.onnx_files import EVERY_LAYER
from space.quantization import NumberFormat, number_format

from .workers.stages import pack

REPORT = "export_report.json"
FILE_FORMATS: Mapping[str, NumberFormat | None] = {
    "model.onnx": "fp32",
    "model.int8.onnx": None,
    "model.int8-static.onnx": "int8_dynamic",
    "model.int4.onnx": None,
}
"""Of every layer; None: as the report says, or as searched. Static int8 is timed as int8."""


def score_folder(
    folder: Path, target: Target, *, data: TaskData | None, scratch: Path, measure: bool = True
) -> dict[str, Any]:
    """`files`: name -> size, latency and quality of every ONNX file, as JSON; `no_quality`: why not.
    `simulated`: number format that no runtime computes in -> bytes of its weights, packed, and the quality of
    the folder's torch model rounded to it; without a latency, since nothing here could have one.

    `data`: the task to evaluate on; without it that of the report is prepared again, if it can be.

    Raises:
        InvalidInputError: its report is no JSON, or its weights are of another architecture.
        EvaluationError, UnsupportedError: a file cannot be run.
    """
    report = _report(folder)
    searched = parse_architecture((folder / "architecture.json").read_bytes())
    names = [name for name in FILE_FORMATS if (folder / name).is_file()]
    if not names and not (folder / WEIGHTS).is_file():
        return {"files": {}, "simulated": {}, "no_quality": f"the folder has no ONNX file and no {WEIGHTS}"}
    why_not = None
    if data is None:
        data, why_not = _data_of(report)
    there = replace(target, runtime="onnxruntime", phase="prefill")
    files: dict[str, Any] = {}
    for name in names:
        files[name] = {"size_bytes": (folder / name).stat().st_size}
        if measure:
            architecture = _formats(name, searched, report)
            files[name]["latency"] = pack(measure_onnx(folder / name, architecture, there, scratch=scratch))
        if data is not None:
            files[name]["quality"] = dict(file_quality(folder / name, data))
    found = {"files": files, "simulated": {} if data is None else _simulated(folder, data)}
    return {**found, **({"no_quality": why_not} if why_not else {})}


def _simulated(folder: Path, data: TaskData) -> dict[str, Any]:
    if not (folder / WEIGHTS).is_file():
        return {}
    model, searched = load_folder(folder)
    found: dict[str, Any] = {}
    for name in get_args(NumberFormat):
        if number_format(name).real_on:
            continue
        rounded = searched.with_number_format(name)
        found[name] = {
            "execution": "simulated",
            "weights_bytes": costs(rounded).weights_bytes,
            "quality": dict(rounded_quality(model, rounded, data)),
        }
    return found


def _formats(name: str, searched: Architecture, report: Mapping[str, Any]) -> Architecture:
    """The architecture whose number formats a file computes in."""
    every = FILE_FORMATS[name] or EVERY_LAYER.get(str(report.get("quantize")))
    return searched.with_number_format(every) if every else searched


def _data_of(report: Mapping[str, Any]) -> tuple[TaskData | None, str | None]:
    """The data a model was trained for, when they are the same as then; else why not."""
    task = report.get("task")
    if not isinstance(task, Mapping):
        return None, f"the folder has no {REPORT} that says its task; name it with --task"
    try:
        found = prepare_task(str(task["kind"]), str(task["name"]), _length(task))
    except ServiceError as error:
        return None, f"the data of task '{task.get('name')}' are not at hand ({error.message}); name --task"
    if found.digest != report.get("data_digest"):
        return None, f"data set '{found.name}' is not the one the model was trained on; name --task"
    return found, None


def _length(task: Mapping[str, Any]) -> int | None:
    return int(task["length"]) if task.get("kind") in ("language-model", "text-classification") else None


def _report(folder: Path) -> dict[str, Any]:
    path = folder / REPORT
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InvalidInputError(f"'{path}' is not JSON: {error}") from error
    return found if isinstance(found, dict) else {}
