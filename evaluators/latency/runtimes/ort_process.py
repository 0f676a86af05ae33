"""The fresh process in which ONNX Runtime is timed or run: standard library, numpy and onnxruntime only.

Started as a file (`python -P ort_process.py REQUEST.json`), never imported: that keeps torch and this project
out. One line of JSON on standard output answers each task of the request, in order:

    {"task": "time", "file", "reference", "input", "steps", "reference_input", "limits", "long_run_s"}
    {"task": "run", "file", "inputs": [X.npy, ...], "outputs": [Y.npy, ...]}
    {"task": "memory", "file", "input"}
"""

import ctypes
import functools
import importlib.util
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

PR_SET_PDEATHSIG = 1
FREE_AXES = ("batch", "length")
"""Names that exported files give to the first axes of their input, where these are free."""


def main(request_file: str) -> int:
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    _die_with_parent()
    _pin(request["cores"])
    estimator = _by_path("paretoformer_estimator", Path(request["estimator"]))
    make_session = functools.partial(session, threads=_thread_pool(request["threads"]))
    sessions = functools.lru_cache(maxsize=4)(make_session)  # a reference serves many candidates
    for task in request["tasks"]:
        try:
            if task["task"] == "time":
                answer = timed(task, make_session, sessions, estimator, request["threads"])
            elif task["task"] == "memory":
                answer = memory(task)
            else:
                answer = run(task, make_session)
        except MemoryError as error:
            answer = {"error": str(error), "reason": "out_of_memory"}
        except Exception as error:  # the border of this process: the parent decides what it means
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}", "reason": _reason(error)}
        sys.stdout.write(json.dumps({**answer, "modules": _foreign_modules()}) + "\n")
        sys.stdout.flush()
    return 0


def session(
    file: str, shape: tuple[int, ...] = (), *, threads: int, arena: bool = True
) -> onnxruntime.InferenceSession:
    """Sequential; graph optimisations and spinning at their defaults. `threads` 0: the common pool.

    `shape`: of the one input it will get; free axes are fixed to it, so that the shape arithmetic of the
    graph becomes constants before the first call.
    """
    options = onnxruntime.SessionOptions()
    for name, size in zip(FREE_AXES, shape, strict=False):
        options.add_free_dimension_override_by_name(name, size)  # a name the graph lacks is passed over
    options.enable_cpu_mem_arena = arena
    options.log_severity_level = 3
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    if threads:
        options.intra_op_num_threads = threads
    else:
        options.use_per_session_threads = False
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def timed(
    task: Mapping[str, Any],
    make_session: Callable[..., onnxruntime.InferenceSession],
    sessions: Callable[..., onnxruntime.InferenceSession],
    estimator: ModuleType,
    threads: int,
) -> dict[str, Any]:
    own, other = task["input"], task["reference_input"]
    model = make_session(task["file"], tuple(own["shape"]))
    candidate = bound(model, own) if task["steps"] is None else stepped(model, task["steps"])
    reference = bound(sessions(task["reference"], tuple(other["shape"])), other)
    result = estimator.estimate(
        candidate,
        reference,
        limits=estimator.EstimatorLimits(**task["limits"]),
        long_run_s=task["long_run_s"],
        threads=threads,
    )
    return {"estimate": asdict(result)}


def stepped(session: onnxruntime.InferenceSession, file: str) -> Callable[[], onnxruntime.OrtValue]:
    """Some tokens one after the other, each with the state that the one before it left."""
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    with np.load(file) as arrays:
        start = int(arrays["start"])
        tokens = [value(np.ascontiguousarray(row)) for row in arrays["tokens"]]
        before = {name: value(arrays[name]) for name in arrays.files if name.startswith("state.")}
    positions = [value(np.array(start + index)) for index in range(len(tokens))]
    outputs = [output.name for output in session.get_outputs()]

    def run() -> onnxruntime.OrtValue:
        state = before
        for token, position in zip(tokens, positions, strict=True):
            found = session.run_with_ort_values(outputs, {"token": token, "position": position, **state})
            state = dict(zip(before, found[1:], strict=True))
        return found[0]

    return run


def bound(session: onnxruntime.InferenceSession, described: Mapping[str, Any]) -> Callable[[], object]:
    """One run with inputs and outputs bound once, on random values of the described shape."""
    values = random_values(described)
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, values)
    name = session.get_outputs()[0].name
    binding.bind_output(name)
    session.run_with_iobinding(binding)
    output = onnxruntime.OrtValue.ortvalue_from_numpy(binding.copy_outputs_to_cpu()[0])
    binding.bind_ortvalue_output(name, output)
    return functools.partial(_run_bound, session, binding, (values, output))


def random_values(described: Mapping[str, Any]) -> NDArray[Any]:
    """An input of the described shape and kind, always the same."""
    rng = np.random.default_rng(0)
    shape = tuple(described["shape"])
    if described["dtype"] == "int64":
        return rng.integers(0, described["below"], size=shape, dtype=np.int64)
    return rng.standard_normal(shape, dtype=np.float32)


def run(
    task: Mapping[str, Any], make_session: Callable[[str], onnxruntime.InferenceSession]
) -> dict[str, Any]:
    """Outputs of a file for stored inputs."""
    model = make_session(task["file"])
    name = model.get_inputs()[0].name
    for source, destination in zip(task["inputs"], task["outputs"], strict=True):
        np.save(destination, model.run(None, {name: np.load(source)})[0])
    return {"input": name, "output": model.get_outputs()[0].name}


def memory(task: Mapping[str, Any]) -> dict[str, Any]:
    """Resident bytes before the session and with it, and the most while it runs once, without an arena: an
    arena grows in steps that hide what a run needs."""
    before = _resident("VmRSS")
    model = session(task["file"], tuple(task["input"]["shape"]), threads=1, arena=False)
    loaded = _resident("VmRSS")
    inputs = {model.get_inputs()[0].name: random_values(task["input"])}
    ready = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark begins anew
    model.run(None, inputs)  # the first run: what it gives back may stay resident and hide a second one's
    return {
        "before_bytes": before,
        "session_bytes": loaded - before,
        "run_bytes": _resident("VmHWM") - ready,
    }


def _resident(name: str) -> int:
    """A line of this process' status, bytes (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return 1024 * int(line.split()[1])
    raise OSError(f"{name} is not implemented on this system")


def _run_bound(model: onnxruntime.InferenceSession, binding: Any, _kept_alive: object) -> None:
    model.run_with_iobinding(binding)


def _thread_pool(threads: int) -> int:
    """Several threads come from one pool for both networks: two pools would spin against each other."""
    if threads == 1:
        return 1
    onnxruntime.set_global_thread_pool_sizes(threads, 1)
    return 0


def _pin(cores: list[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _die_with_parent() -> None:
    """Its lock on the host dies with the parent, so the measurement must too (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _by_path(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _reason(error: Exception) -> str:
    text = str(error).lower()
    if "allocat" in text or "bad_alloc" in text:
        return "out_of_memory"
    return "unsupported_operator" if "not_implemented" in text or "not implemented" in text else "internal"


def _foreign_modules() -> list[str]:
    return [name for name in ("torch", "space", "evaluators") if name in sys.modules]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
