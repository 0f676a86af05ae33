"""ONNX Runtime from outside: tasks for a fresh process that times or runs files, and a plain predictor.

The process is given T cores and T threads before it starts, imports numpy and onnxruntime only, and is killed
when it is late or when this process dies.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from space.errors import EvaluationError, UnsupportedError

from .. import estimator
from ..estimator import Estimate, EstimatorLimits
from ..target import timing_cores

log = logging.getLogger(__name__)

PROCESS_FILE = Path(__file__).with_name("ort_process.py")
START_S = 60.0
"""Allowed for the start of a process."""
WARM_UPS_S = 20.0
"""Allowed for loading and warming up, per task."""
OUT_OF_MEMORY_SIGNAL = -9

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
            "reference_input": asdict(self.reference.input),
            "limits": asdict(self.limits),
            "long_run_s": self.long_run_s,
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one task of a process gave no answer; `reason` as in `EvaluationError`."""

    message: str
    reason: str = "internal"

    def error(self) -> EvaluationError | UnsupportedError:
        if self.reason == "unsupported_operator":
            return UnsupportedError(self.message)
        return EvaluationError(self.message, reason=self.reason)


def time_files(tasks: Sequence[TimingTask], *, threads: int) -> list[Estimate | Failure]:
    """Times every task in one fresh process, in order. The caller holds the host (`quiet_host`).

    A task that kills the process, or hangs it, fails alone: a new process goes on with the next.
    """
    answers: list[dict[str, Any]] = []
    while len(answers) < len(tasks):
        rest = tasks[len(answers) :]
        allowed = START_S + sum(2 * task.limits.max_seconds + WARM_UPS_S for task in rest)
        answers += _in_fresh_process([task.request() for task in rest], threads=threads, timeout_s=allowed)
    return [Estimate(**a["estimate"]) if "estimate" in a else _failure(a) for a in answers]


def resident_bytes(candidate: TimedFile) -> dict[str, int]:
    """Resident memory of a file in a fresh process: `before_bytes` (interpreter and runtime), what its
    session adds (`session_bytes`), and the most that one run adds to that (`run_bytes`).

    Raises:
        EvaluationError, UnsupportedError: the file cannot be loaded or run, or the system does not say.
    """
    task = {"task": "memory", "file": str(candidate.path), "input": asdict(candidate.input)}
    answer = _in_fresh_process([task], threads=1, timeout_s=2 * START_S)[0]
    if "error" in answer:
        raise _failure(answer).error()
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
        answer = _in_fresh_process([task], threads=threads, timeout_s=2 * START_S)[0]
        if "error" in answer:
            raise _failure(answer).error()
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


def _in_fresh_process(
    tasks: Sequence[Mapping[str, Any]], *, threads: int, timeout_s: float
) -> list[dict[str, Any]]:
    """One answer per task, in order, up to and with the first that the process died of or was late with."""
    request = {
        "tasks": list(tasks),
        "threads": threads,
        "cores": list(timing_cores(threads)),
        "estimator": str(Path(estimator.__file__)),
    }
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as folder:
        file = Path(folder) / "request.json"
        file.write_text(json.dumps(request), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-P", str(PROCESS_FILE), str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        with _killed_at_the_end(process):
            try:
                output, errors = process.communicate(timeout=timeout_s)
                fate = _fate(process.returncode, errors)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
                fate = {"error": f"no answer after {timeout_s:g} s", "reason": "timeout"}
    answers = [json.loads(line) for line in output.splitlines() if line.endswith("}")]
    return answers if len(answers) == len(tasks) else [*answers, fate]


@contextlib.contextmanager
def _killed_at_the_end(process: "subprocess.Popen[str]") -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _fate(code: int, errors: str) -> dict[str, Any]:
    last = errors.strip().splitlines()[-1] if errors.strip() else ""
    reason = "out_of_memory" if code == OUT_OF_MEMORY_SIGNAL or "MemoryError" in last else "internal"
    return {"error": f"the timing process ended with code {code} {last}".strip(), "reason": reason}


def _failure(answer: Mapping[str, Any]) -> Failure:
    failure = Failure(str(answer["error"]), str(answer["reason"]))
    log.info("a task in a fresh process failed", extra={"reason": failure.reason, "detail": failure.message})
    return failure
