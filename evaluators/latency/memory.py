"""Memory of a model as it runs, beside the closed forms of `space.costs`.

    peak = session + run        session: what loading the file adds to the process; run: the most that one
                                forward pass adds to that

ONNX Runtime: resident pages of a fresh process, without an arena. Pages, kernels' scratch space and packed
copies of weights are in it; so it is more than the arithmetic needs, and of two lengths the difference says
what a token costs. The size of the exported file is storage, not memory, and stands beside it as such.

A CUDA device: bytes that torch's allocator has handed out there, of an eager pass whatever the runtime (a
graph holds the same tensors); the driver, loaded kernels and workspaces of libraries are not in it.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from evaluators.protocol import Measurement
from space.architecture import Architecture
from space.costs import costs
from space.errors import UnsupportedError
from space.export import export_onnx
from space.number_formats import apply_number_formats

from .measure import conditions
from .runtimes import TimedFile, cuda, eager, resident_bytes
from .target import Target, check_target
from .timed_input import random_input, timed_input


def measure_memory(
    model: nn.Module,
    architecture: Architecture,
    target: Target,
    *,
    scratch: Path,
    calibration: Tensor | None = None,
) -> Measurement:
    """Peak bytes of one forward pass at the target's batch and length (quantity `memory_bytes`, measured), on
    one thread and of the whole sequence in every phase, as the conditions say; `found_by` in the detail says
    how. `calibration` as in `measure_model`.

    Raises:
        UnsupportedError: on a CPU the runtime is not ONNX Runtime, or the system does not say how much is
            resident; the CUDA device is not there.
        EvaluationError: the process died.
    """
    if target.device == "cuda":
        check_target(target)
        there = _bytes_on_device(model, architecture, target, calibration)
        return _measurement({**there, "found_by": "torch.cuda.max_memory_allocated"}, architecture, target)
    if target.runtime != "onnxruntime":
        raise UnsupportedError(
            f"memory is not measured on {target.runtime}, which shares its process with everything else; "
            "choose onnxruntime"
        )
    scratch.mkdir(parents=True, exist_ok=True)
    tokens = target.tokens(architecture)
    with tempfile.TemporaryDirectory(prefix="memory-", dir=scratch) as folder:
        path = export_onnx(model, architecture, Path(folder) / "model.onnx", calibration=calibration)
        found = resident_bytes(TimedFile(path, timed_input(architecture, target.batch_size, tokens)))
        file_bytes = path.stat().st_size
    resident = {**found, "file_bytes": file_bytes, "found_by": "resident pages of a fresh process"}
    return _measurement(resident, architecture, target)


def _bytes_on_device(
    model: nn.Module, architecture: Architecture, target: Target, calibration: Tensor | None
) -> dict[str, int]:
    values = random_input(timed_input(architecture, target.batch_size, target.tokens(architecture)))
    running = apply_number_formats(model, architecture, calibration=calibration)
    with eager.conditions(1):
        return cuda.allocated_bytes(lambda: eager.timed_call(*eager.placed(running, values, target)))


def _measurement(found: Mapping[str, Any], architecture: Architecture, target: Target) -> Measurement:
    tokens = target.tokens(architecture)
    counted = costs(architecture, batch_size=target.batch_size, tokens=tokens)
    return Measurement(
        quantity="memory_bytes",
        value=float(found["session_bytes"] + found["run_bytes"]),
        unit="bytes",
        kind="measured",
        detail={
            **found,
            "computed": {
                "weights_bytes": counted.weights_bytes,
                "state_bytes": counted.state_bytes,
                "activation_bytes": counted.activation_bytes,
            },
            "conditions": conditions(architecture, replace(target, threads=1, phase="prefill")),
        },
    )
