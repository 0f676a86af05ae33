"""Is what was exported what was trained: every file reloaded, run on fresh inputs, compared with the model.

Each file runs in a fresh process that has its own runtime and nothing of this project (`export_process`). The
difference is relative: the largest, or the root mean square, of the differences of the logits over the root
mean square of the model's logits. An ONNX file with 4-bit weights, and a file of torch in any number format,
is compared with eager torch in the same format: rounding changes logits by far more than float32 does, and
would hide a wrong file. A decode step is run token by token over the same inputs.
"""

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_model
from torch import nn

from evaluators.latency import device_facts
from space.architecture import Architecture, BytesInterface
from space.errors import EvaluationError
from space.export import CODE, WEIGHTS, ExportedFolder, input_shape, load_folder
from space.number_formats import apply_number_formats

from .export_blame import guilty_block, guilty_weight
from .export_process import ONNX_RUNNER, Run, Runner, run_exported

Logits = Sequence[NDArray[Any]]

PACKED = frozenset({"int4_g32", "int4_g64"})
"""Formats whose file computes what eager torch computes, up to float32."""

TORCH_RUNNERS = {
    "model.py": Runner("python_code", ("torch", "safetensors")),
    "deployed.py": Runner("python_code", ("torch", "safetensors")),
    "model.pt2": Runner("torch_program", ("torch",)),
    "modeling_paretoformer.py": Runner("transformers_folder", ("torch", "safetensors", "transformers")),
}
"""File of a folder -> what runs it in PyTorch."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a file may be from the model, and why that far."""

    of: Literal["largest", "rms"]
    limit: float
    reason: str


SAME_WEIGHTS = Tolerance("largest", 0.0, "the same weights in the same program give the same bits")
FLOAT32 = Tolerance(
    "largest",
    1e-3,
    "float32 sums in another order: 6e-6 is usual; the rest is left for deep models and large activations",
)
INT8 = Tolerance(
    "rms",
    0.25,
    "8-bit weights and activations: 0.01 to 0.03 is usual; beyond a quarter it is another model. The weights "
    "themselves are checked through the float32 file of the same folder",
)
SAME_ROUNDING = Tolerance(
    "rms",
    0.02,
    "the same roundings in the same order: a float32 difference moves a number to its neighbour at most",
)


def verify_export(
    exported: ExportedFolder,
    model: nn.Module,
    *,
    inputs: Sequence[NDArray[Any]] | None = None,
    on_file: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """The report of a comparison that passed, as JSON: per file the differences, tolerance, size and SHA-256.

    `model` is the trained fp32 form. Without `inputs`, random ones of three lengths and two batch sizes.
    `on_file` is told the name of every file before it is tried.

    Raises:
        EvaluationError: a file differs by more than its tolerance, or cannot be loaded; nothing may be
        published.
    """
    architecture = next(iter(exported.files.values()))
    chosen = fresh_inputs(architecture) if inputs is None else list(inputs)
    expected = _logits(model, chosen)
    files = {}
    for name in exported.files:
        on_file(name)
        files[name] = _compared(exported, name, chosen, model, expected)
    versions = {name: device_facts()[name] for name in ("torch", "onnxruntime", "numpy")}
    return {"passed": True, "inputs": [list(x.shape) for x in chosen], "files": files, "versions": versions}


def fresh_inputs(architecture: Architecture, *, seed: int = 1) -> list[NDArray[Any]]:
    """Random inputs: batches of 1 and 3, each full, half and short in length (images have one size)."""
    rng = np.random.default_rng(seed)
    n = architecture.tokens
    lengths = [n] if architecture.interface.input == "image" else sorted({n, (n + 1) // 2, min(n, 7)})
    shapes = [input_shape(architecture, batch, length) for batch in (1, 3) for length in lengths]
    if isinstance(architecture.interface, BytesInterface):
        below = architecture.interface.vocab_size
        return [rng.integers(0, below, size=shape, dtype=np.int64) for shape in shapes]
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def _compared(
    exported: ExportedFolder,
    name: str,
    inputs: Sequence[NDArray[Any]],
    model: nn.Module,
    expected: Logits,
) -> dict[str, Any]:
    path, architecture = exported.path / name, exported.files[name]
    formats = architecture.number_formats
    tolerance = tolerance_of(name, formats)
    is_eager = name in TORCH_RUNNERS and not formats <= {"fp32", "int8_mixed"}
    is_rounded = is_eager or (path.suffix == ".onnx" and any(form in PACKED for form in formats))
    if is_rounded:
        expected = _logits(apply_number_formats(model, architecture), inputs)
    run = _run(path, inputs, model, architecture)
    difference = relative_difference(run.outputs, expected)
    if not difference[tolerance.of] <= tolerance.limit:  # also when it is not a number
        raise EvaluationError(
            f"{name} differs from the trained model{' in its number formats' if is_rounded else ''} "
            f"by {difference[tolerance.of]:.3g} "
            f"({tolerance.of}, relative), more than {tolerance.limit:g}"
            f"{_blame(path, model, architecture, inputs, tolerance)}; it was not published"
        )
    data = path.read_bytes()
    return {
        "max_abs_difference": difference["absolute"],
        "largest_relative": difference["largest"],
        "rms_relative": difference["rms"],
        "same_argmax": difference["same_argmax"],
        "tolerance": {"of": tolerance.of, "limit": tolerance.limit, "reason": tolerance.reason},
        "compared_with": "eager torch in its number formats" if is_rounded else "the trained model",
        "number_formats": ["fp32"] if name == WEIGHTS else sorted(formats),
        "process_peak_bytes": run.peak_bytes,
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def relative_difference(found: Logits, expected: Logits) -> dict[str, float]:
    """`absolute`, `largest` and `rms` difference, and the share of equal argmax, over all outputs."""
    a = np.concatenate([y.reshape(-1, y.shape[-1]) for y in found]).astype(np.float64)
    b = np.concatenate([y.reshape(-1, y.shape[-1]) for y in expected]).astype(np.float64)
    if a.shape != b.shape:
        raise EvaluationError(
            f"the file gives {a.shape[0]} rows of logits where the model gives {b.shape[0]}"
        )
    scale = max(float(np.sqrt(np.mean(b**2))), 1e-12)
    absolute = float(np.max(np.abs(a - b)))
    return {
        "absolute": absolute,
        "largest": absolute / scale,
        "rms": float(np.sqrt(np.mean((a - b) ** 2))) / scale,
        "same_argmax": float(np.mean(a.argmax(-1) == b.argmax(-1))),
    }


def tolerance_of(name: str, formats: frozenset[str]) -> Tolerance:
    """What a file of these number formats is held to."""
    if name.endswith(".safetensors"):
        return SAME_WEIGHTS
    if formats <= {"fp32", *PACKED}:
        return FLOAT32
    return SAME_ROUNDING if name in TORCH_RUNNERS and "int8_mixed" not in formats else INT8


def _run(path: Path, inputs: Sequence[NDArray[Any]], model: nn.Module, architecture: Architecture) -> Run:
    if path.suffix == ".onnx":
        return run_exported(ONNX_RUNNER, path.parent, inputs, path.name)
    if path.name == WEIGHTS:
        loaded, _ = load_folder(path.parent)
        return Run(_logits(loaded, inputs), 0)
    runner = TORCH_RUNNERS[path.name]
    if path.suffix != ".py" or any(path.parent.glob("*.safetensors")):
        return run_exported(runner, path.parent, inputs, path.name)
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as scratch:  # code alone: the weights come along
        weights = Path(scratch) / "weights.safetensors"
        save_model(model if path.name == CODE else apply_number_formats(model, architecture), str(weights))
        return run_exported(runner, path.parent, inputs, path.name, str(weights))


def _blame(
    path: Path,
    model: nn.Module,
    architecture: Architecture,
    inputs: Sequence[NDArray[Any]],
    tolerance: Tolerance,
) -> str:
    """Where the difference begins, as the end of a sentence; empty where the file does not show it."""
    weights = path.with_name("model.safetensors")
    if path.suffix != ".onnx" and weights.is_file():
        part = guilty_weight(weights, model, architecture)
    elif path.name.startswith("model.") and path.suffix == ".onnx":
        part = guilty_block(path, model, architecture, inputs[0], tolerance.limit)
    else:
        part = None
    return f", first in {part}" if part else ""


def _logits(model: nn.Module, inputs: Sequence[NDArray[Any]]) -> Logits:
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return [model(torch.from_numpy(x)).numpy() for x in inputs]
    finally:
        model.train(was_training)
