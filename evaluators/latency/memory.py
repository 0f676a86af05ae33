"""Memory of a model as it runs, beside the closed forms of `space.costs`.

    peak = session + run        session: what loading the file adds to the process; run: the most that one
                                forward pass adds to that

Resident pages of a fresh process of ONNX Runtime, without an arena. Pages, kernels' scratch space and packed
copies of weights are in it; so it is more than the arithmetic needs, and of two lengths the difference says
what a token costs. The size of the exported file is storage, not memory, and stands beside it as such.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from evaluators.protocol import Measurement
from space.architecture import Architecture
from space.costs import costs
from space.errors import UnsupportedError
from space.export import export_onnx

from .measure import conditions
from .runtimes import TimedFile, resident_bytes
from .target import Target
from .timed_input import timed_input


def measure_memory(
    model: nn.Module,
    architecture: Architecture,
    target: Target,
    *,
    scratch: Path,
    calibration: Tensor | None = None,
) -> Measurement:
    """Peak bytes of one forward pass at the target's batch and length (quantity `memory_bytes`, measured), on
    one thread and of the whole sequence in every phase, as the conditions say. `calibration` as in
    `measure_model`.

    Raises:
        UnsupportedError: the runtime is not ONNX Runtime, or the system does not say how much is resident.
        EvaluationError: the process died.
    """
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
    counted = costs(architecture, batch_size=target.batch_size, tokens=tokens)
    return Measurement(
        quantity="memory_bytes",
        value=float(found["session_bytes"] + found["run_bytes"]),
        unit="bytes",
        kind="measured",
        detail={
            **found,
            "file_bytes": file_bytes,
            "computed": {
                "weights_bytes": counted.weights_bytes,
                "state_bytes": counted.state_bytes,
                "activation_bytes": counted.activation_bytes,
            },
            "conditions": conditions(architecture, replace(target, threads=1, phase="prefill")),
        },
    )
