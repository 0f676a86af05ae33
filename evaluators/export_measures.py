"""What an exported file is worth where it will run: quality, latency, size and memory, as it was published.

Quality on the validation part; latency on the target by the project's estimator; memory of a fresh process of
ONNX Runtime (what loading adds, and the most that one pass adds to that).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evaluators.latency import EstimatorLimits, Target, measure_onnx, predictor
from evaluators.latency.runtimes import TimedFile, resident_bytes
from evaluators.latency.timed_input import timed_input
from evaluators.protocol import Measurement
from evaluators.training import TaskData, evaluate
from space.architecture import Architecture
from space.errors import EvaluationError, UnsupportedError
from space.export import ExportedFolder


def measured_files(
    exported: ExportedFolder,
    data: TaskData,
    target: Target,
    *,
    scratch: Path,
    limits: EstimatorLimits | None = None,
    on_file: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Figures of every ONNX file of whole passes, as JSON; `on_file` is told each name beforehand."""
    there = replace(target, device="cpu", runtime="onnxruntime", phase="prefill")
    found: dict[str, Any] = {}
    for name, architecture in exported.files.items():
        if not name.startswith("model.") or not name.endswith(".onnx"):
            continue
        on_file(name)
        path = exported.path / name
        found[name] = {
            "quality": file_quality(path, data),
            "latency": _plain(measure_onnx(path, architecture, there, scratch=scratch, limits=limits)),
            "size_bytes": path.stat().st_size,
            "memory": file_memory(path, architecture, there),
        }
    return found


def file_quality(path: Path, data: TaskData) -> Mapping[str, Any]:
    """Of an ONNX file on the validation part."""
    found = evaluate(predictor(path, threads=1), data, "validation")
    return {"part": "validation", "values": dict(found.values), "standard_error": dict(found.standard_error)}


def file_memory(path: Path, architecture: Architecture, target: Target) -> Mapping[str, Any]:
    """Resident bytes of a fresh process with the file; says so where the system does not tell."""
    tokens = target.tokens(architecture)
    try:
        found = resident_bytes(TimedFile(path, timed_input(architecture, target.batch_size, tokens)))
    except (EvaluationError, UnsupportedError) as error:
        return {"status": "unknown", "message": error.message}
    return {**found, "peak_bytes": found["session_bytes"] + found["run_bytes"], "status": "measured"}


def _plain(measurement: Measurement) -> dict[str, Any]:
    return {**asdict(measurement), "flags": sorted(measurement.flags)}
