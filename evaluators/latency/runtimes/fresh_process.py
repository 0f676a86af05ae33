"""Fresh processes for timing: T cores and T threads before they start, killed when they are late or when this
process dies."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from space.errors import EvaluationError, UnsupportedError

from .. import estimator
from ..target import timing_cores

log = logging.getLogger(__name__)

OUT_OF_MEMORY_SIGNAL = -9


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one task of a process gave no answer; `reason` as in `EvaluationError`."""

    message: str
    reason: str = "internal"

    def error(self) -> EvaluationError | UnsupportedError:
        if self.reason == "unsupported_operator":
            return UnsupportedError(self.message)
        return EvaluationError(self.message, reason=self.reason)


def in_fresh_process(
    program: Path, tasks: Sequence[Mapping[str, Any]], *, threads: int, timeout_s: float
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
            [sys.executable, "-P", str(program), str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        with _killed_at_the_end(process):
            try:
                output, errors = process.communicate(timeout=timeout_s)
                fate = fate_of(process.returncode, errors)
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


def fate_of(code: int, errors: str) -> dict[str, Any]:
    last = errors.strip().splitlines()[-1] if errors.strip() else ""
    reason = "out_of_memory" if code == OUT_OF_MEMORY_SIGNAL or "MemoryError" in last else "internal"
    return {"error": f"the timing process ended with code {code} {last}".strip(), "reason": reason}


def failure_of(answer: Mapping[str, Any]) -> Failure:
    failure = Failure(str(answer["error"]), str(answer["reason"]))
    log.info("a task in a fresh process failed", extra={"reason": failure.reason, "detail": failure.message})
    return failure
