"""ONNX Runtime from outside: tasks for a fresh process that times or runs files, and a plain predictor.

The process imports numpy and onnxruntime only.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..estimator import Estimate, EstimatorLimits
from .fresh_process import Failure, failure_of, in_fresh_process

PROCESS_FILE = Path(__file__).with_name("ort_process.py")
START_S = 60.0
"""Allowed for the start of a process."""
WARM_UPS_S = 20.0
"""Allowed for loading and warming up, per task."""

Predictor = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class InputShape:
    """What a network is fed while it is timed: random token ids below `below`, or normal float32 values."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    below: int = 0


@dataclass(frozen=True, slots=True)
class TimedFile:
    """A network file and its input."""

    path: Path
    input: InputShape
    steps: Path | None = None
    """Of a decode step the tokens that one call takes, one after the other, and the state before them (.npz:
    `tokens` [steps, batch], `start`, `state.*`)."""


@dataclass(frozen=True, slots=True)
class TimingTask:
    """A candidate timed against a reference; `long_run_s` is the reference's value here, when known."""

    candidate: TimedFile
    reference: TimedFile
    limits: EstimatorLimits
    long_run_s: float | None = None

    def request(self) -> dict[str, Any]:
        return {
            "task": "time",
            "file": str(self.candidate.path),
            "reference": str(self.reference.path),
            "input": asdict(self.candidate.input),
            "steps": None if self.candidate.steps is None else str(self.candidate.steps),
            "reference_input": asdict(self.reference.input),
            "limits": asdict(self.limits),
            "long_run_s": self.long_run_s,
        }


def time_files(tasks: Sequence[TimingTask], *, threads: int) -> list[Estimate | Failure]:
    """Times every task in one fresh process, in order. The caller holds the host (`quiet_host`).

    A task that kills the process, or hangs it, fails alone: a new process goes on with the next.
    """
    answers: list[dict[str, Any]] = []
    while len(answers) < len(tasks):
        rest = tasks[len(answers) :]
        allowed = START_S + sum(2 * task.limits.max_seconds + WARM_UPS_S for task in rest)
        answers += in_fresh_process(
            PROCESS_FILE, [task.request() for task in rest], threads=threads, timeout_s=allowed
        )
    return [Estimate(**a["estimate"]) if "estimate" in a else failure_of(a) for a in answers]


def resident_bytes(candidate: TimedFile) -> dict[str, int]:
    """Resident memory of a file in a fresh process: `before_bytes` (interpreter and runtime), what its
    session adds (`session_bytes`), and the most that one run adds to that (`run_bytes`).

    Raises:
        EvaluationError, UnsupportedError: the file cannot be loaded or run, or the system does not say.
    """
    task = {"task": "memory", "file": str(candidate.path), "input": asdict(candidate.input)}
    answer = in_fresh_process(PROCESS_FILE, [task], threads=1, timeout_s=2 * START_S)[0]
    if "error" in answer:
        raise failure_of(answer).error()
    return {key: int(answer[key]) for key in ("before_bytes", "session_bytes", "run_bytes")}


def run_file(path: Path, inputs: Sequence[NDArray[Any]], *, threads: int = 1) -> list[NDArray[Any]]:
    """The outputs of a file, computed in a fresh process that has only numpy and onnxruntime.

    Raises:
        EvaluationError, UnsupportedError: the file cannot be loaded or run.
    """
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as name:
        sources = [Path(name) / f"input-{index}.npy" for index in range(len(inputs))]
        results = [Path(name) / f"output-{index}.npy" for index in range(len(inputs))]
        for source, values in zip(sources, inputs, strict=True):
            np.save(source, values)
        task = {
            "task": "run",
            "file": str(path),
            "inputs": [str(source) for source in sources],
            "outputs": [str(result) for result in results],
        }
        answer = in_fresh_process(PROCESS_FILE, [task], threads=threads, timeout_s=2 * START_S)[0]
        if "error" in answer:
            raise failure_of(answer).error()
        return [np.load(result) for result in results]


def predictor(path: Path, threads: int = 1) -> Predictor:
    """The file as a function of one array, in this process: for the quality of what was exported."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def predict(inputs: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(session.run(None, {name: inputs})[0])

    return predict
