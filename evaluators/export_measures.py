"""What an exported file is worth where it will run: quality, latency, size and memory, as it was published.

    model*.onnx              quality, latency, size, memory of a fresh process of ONNX Runtime
    step*.onnx               latency of a token, where the target decodes
    deployed.py, model.pt2   quality, where layers are not float32
    model.py, deployed.py    latency, where the target is eager torch

Quality on the validation part; latency by the project's estimator; memory is what loading adds, and the most
that one pass adds to that.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import nn

from evaluators.latency import (
    EstimatorLimits,
    Target,
    measure_module,
    measure_onnx,
    predictor,
    write_steps,
)
from evaluators.latency.runtimes import TimedFile, resident_bytes
from evaluators.latency.timed_input import timed_input
from evaluators.protocol import Measurement
from evaluators.training import TaskData, evaluate
from evaluators.training.data import Array
from space.architecture import Architecture
from space.errors import EvaluationError, UnsupportedError
from space.export import CODE, ExportedFolder
from space.export.python_files import DEPLOYED
from space.export.torch_export import PROGRAM
from space.model import Model
from space.number_formats import apply_number_formats

EAGER = ("eager", "cudagraph")


def measured_files(
    exported: ExportedFolder,
    model: nn.Module,
    data: TaskData,
    target: Target,
    *,
    scratch: Path,
    limits: EstimatorLimits | None = None,
    on_file: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Figures of every file that has some, as JSON; `on_file` is told each name beforehand.

    `model` is the trained fp32 form, whose state steps begin with.
    """
    found: dict[str, Any] = {}
    for name, architecture in exported.files.items():
        path = exported.path / name
        if name.endswith(".onnx") and (name.startswith("model.") or target.phase == "decode"):
            on_file(name)
            found[name] = _onnx_file(path, architecture, model, data, target, scratch, limits)
        elif name == PROGRAM or (name in (CODE, DEPLOYED) and path.with_suffix(".safetensors").exists()):
            on_file(name)
            if figures := _torch_file(path, architecture, data, target, scratch, limits):
                found[name] = {**figures, "size_bytes": path.stat().st_size}
    return found


def _onnx_file(
    path: Path,
    architecture: Architecture,
    model: nn.Module,
    data: TaskData,
    target: Target,
    scratch: Path,
    limits: EstimatorLimits | None,
) -> dict[str, Any]:
    """A step is timed token by token behind the state of the tokens before; it has no quality of its own."""
    there = replace(target, device="cpu", runtime="onnxruntime", phase="prefill")
    size = path.stat().st_size
    if path.name.startswith("model."):
        latency = measure_onnx(path, architecture, there, scratch=scratch, limits=limits)
        memory = file_memory(path, architecture, there)
        return {
            "quality": file_quality(path, data),
            "latency": _plain(latency),
            "size_bytes": size,
            "memory": memory,
        }
    assert isinstance(model, Model)
    there = replace(there, phase="decode")
    scratch.mkdir(parents=True, exist_ok=True)
    tokens = scratch / f"steps-{uuid4().hex[:8]}.npz"
    try:
        write_steps(model, architecture, there, tokens)
        latency = measure_onnx(path, architecture, there, scratch=scratch, limits=limits, steps=tokens)
    finally:
        tokens.unlink(missing_ok=True)
    return {"latency": _plain(latency), "size_bytes": size}


def _torch_file(
    path: Path,
    architecture: Architecture,
    data: TaskData,
    target: Target,
    scratch: Path,
    limits: EstimatorLimits | None,
) -> dict[str, Any]:
    is_quantized, is_timed = architecture.number_formats != {"fp32"}, target.runtime in EAGER
    figures: dict[str, Any] = {}
    if not is_quantized and (path.name == PROGRAM or not is_timed):
        return figures
    module = _loaded(path)
    if is_quantized:
        figures["quality"] = _quality(_torch_predictor(module), data)
    if is_timed and path.name != PROGRAM:
        there = replace(target, phase="prefill")
        figures["latency"] = _plain(
            measure_module(module, architecture, there, scratch=scratch, limits=limits)
        )
    return figures


def file_quality(path: Path, data: TaskData) -> Mapping[str, Any]:
    """Of an ONNX file on the validation part."""
    return _quality(predictor(path, threads=1), data)


def rounded_quality(model: nn.Module, architecture: Architecture, data: TaskData) -> Mapping[str, Any]:
    """Of a trained fp32 model on the validation part with `architecture`'s number formats rounded in torch:
    what the formats cost in quality. It says nothing of time where they are simulated."""
    rounded = apply_number_formats(model, architecture).eval()
    return _quality(_torch_predictor(rounded), data)


def _quality(predict: Callable[[Array], Array], data: TaskData) -> Mapping[str, Any]:
    found = evaluate(predict, data, "validation")
    return {"part": "validation", "values": dict(found.values), "standard_error": dict(found.standard_error)}


def file_memory(path: Path, architecture: Architecture, target: Target) -> Mapping[str, Any]:
    """Resident bytes of a fresh process with the file; says so where the system does not tell."""
    tokens = target.tokens(architecture)
    try:
        found = resident_bytes(TimedFile(path, timed_input(architecture, target.batch_size, tokens)))
    except (EvaluationError, UnsupportedError) as error:
        return {"status": "unknown", "message": error.message}
    return {**found, "peak_bytes": found["session_bytes"] + found["run_bytes"], "status": "measured"}


def _loaded(path: Path) -> nn.Module:
    """The module behind a file that this program has written: its code runs here."""
    if path.name == PROGRAM:
        return torch.export.load(path).module()
    name = f"exported_{uuid4().hex}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    sys.modules[name] = code  # dataclasses look their module up
    try:
        spec.loader.exec_module(code)
        loaded: nn.Module = code.load(path.parent)
    finally:
        del sys.modules[name]
    return loaded


def _torch_predictor(module: nn.Module) -> Callable[[Array], Array]:
    def predict(inputs: Array) -> Array:
        with torch.inference_mode():
            logits: torch.Tensor = module(torch.from_numpy(np.array(inputs)))
        return logits.float().numpy()

    return predict


def _plain(measurement: Measurement) -> dict[str, Any]:
    return {**asdict(measurement), "flags": sorted(measurement.flags)}
