"""Exported files as a user's machine sees them: run in a fresh process that has their own runtime only.

The process cannot import this project, nor a runtime that the format does not need
(`export_runners.isolated`); its folder is an empty one, and it is killed when it is late or when this process
dies.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from space.errors import EvaluationError

RUNNERS = Path(__file__).with_name("export_runners")
PROJECT = ("space", "evaluators", "search", "dashboards", "api")
RUNTIMES = ("torch", "onnxruntime", "onnx", "safetensors", "transformers")
TIMEOUT_S = 600.0
"""Allowed for one file; tens of seconds are usual only on a machine that is overloaded."""
OUT_OF_MEMORY_SIGNAL = -9


@dataclass(frozen=True, slots=True)
class Runner:
    """A file of `export_runners` and the runtimes it may import."""

    name: str
    needs: tuple[str, ...]


ONNX_RUNNER = Runner("onnx", ("onnxruntime",))


@dataclass(frozen=True, slots=True)
class Run:
    """What an exported file gave, and the most memory its process had resident (interpreter and runtime
    included)."""

    outputs: Sequence[NDArray[Any]]
    peak_bytes: int


def run_exported(
    runner: Runner, folder: Path, inputs: Sequence[NDArray[Any]], *more: str, timeout_s: float = TIMEOUT_S
) -> Run:
    """The outputs of an exported folder for these inputs; `more` are further arguments of the runner.

    Raises:
        EvaluationError: the file cannot be loaded or run, or needs what its format does not have.
    """
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as name:
        scratch = Path(name)
        np.savez(scratch / "inputs.npz", **{f"in_{index}": values for index, values in enumerate(inputs)})  # type: ignore[arg-type]
        request = {
            "paths": installed_packages(),
            "blocked": [*PROJECT, *(one for one in RUNTIMES if one not in runner.needs)],
            "file": str(RUNNERS / f"{runner.name}.py"),
            "arguments": [
                str(folder.resolve()), str(scratch / "inputs.npz"), str(scratch / "outputs.npz"), *more
            ],
            "answer": str(scratch / "answer.json"),
        }  # fmt: skip
        _run(request, scratch, timeout_s)
        answer = json.loads((scratch / "answer.json").read_text(encoding="utf-8"))
        with np.load(scratch / "outputs.npz", allow_pickle=False) as stored:
            outputs = [stored[f"out_{index}"] for index in range(len(inputs))]
    return Run(outputs, int(answer["peak_bytes"]))


def installed_packages() -> list[str]:
    """Folders that installed packages are imported from, without that of this project's sources; where it is
    installed like any other package its folder has the others too, and `isolated` blocks its names."""
    here = Path(__file__).resolve().parents[1]
    folders = [Path(entry).resolve() for entry in sys.path if entry]
    is_source = not (here / "numpy").is_dir()
    return [
        str(folder)
        for folder in dict.fromkeys(folders)
        if folder.is_dir() and not (is_source and folder == here)
    ]


def _run(request: dict[str, Any], scratch: Path, timeout_s: float) -> None:
    file = scratch / "request.json"
    file.write_text(json.dumps(request), encoding="utf-8")
    empty = scratch / "empty"
    empty.mkdir()
    command = [sys.executable, "-I", "-S", "-B", str(RUNNERS / "isolated.py"), str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EvaluationError(
            f"the exported model gave no answer after {timeout_s:g} s", reason="timeout"
        ) from error
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
        reason = (
            "out_of_memory"
            if done.returncode == OUT_OF_MEMORY_SIGNAL or "MemoryError" in last
            else "internal"
        )
        raise EvaluationError(
            f"the exported model does not run without this project (exit {done.returncode}): {last[:300]}",
            reason=reason,
        )
