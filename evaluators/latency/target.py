"""Where and how a model will run, and the name of the machine that measured it."""

import functools
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from evaluators.protocol import fingerprint
from space.architecture import Architecture
from space.errors import InvalidInputError, UnsupportedError

Device = Literal["cpu", "cuda"]
Runtime = Literal["onnxruntime", "eager", "torch-compile", "cudagraph"]
Phase = Literal["prefill", "decode"]

EVALUATOR_VERSION = 6
"""Raised whenever the estimator, the reference network or a runtime changes the number it gives."""


@dataclass(frozen=True, slots=True)
class Target:
    """The conditions of a latency: a number without them is not stored."""

    device: Device = "cpu"
    runtime: Runtime = "onnxruntime"
    threads: int = 1
    batch_size: int = 1
    length: int | None = None
    """Tokens of one sequence; the full context when None. Images always have their full size."""
    phase: Phase = "prefill"
    """prefill: one forward pass. decode: one more token per sequence, the mean over the last 32 of them. The
    reference network is a whole pass in both."""

    def tokens(self, architecture: Architecture) -> int:
        """Tokens of one sequence of the timed input."""
        if self.length is None or architecture.interface.input == "image":
            return architecture.tokens
        if self.length > architecture.tokens:
            raise InvalidInputError(
                f"target length {self.length} is longer than the architecture's context of "
                f"{architecture.tokens} tokens; choose at most {architecture.tokens}"
            )
        return self.length


RUNS_ON: Mapping[Device, tuple[Runtime, ...]] = {
    "cpu": ("onnxruntime", "eager", "torch-compile"),
    "cuda": ("eager", "cudagraph"),
}


def check_target(target: Target) -> None:
    """
    Raises:
        InvalidInputError: this machine has fewer cores than the target has threads, or the runtime does not
            run on the device, or not the phase.
        UnsupportedError: the device is not there.
    """
    if target.runtime not in RUNS_ON[target.device]:
        raise InvalidInputError(
            f"target.runtime={target.runtime} does not run on target.device={target.device}; "
            f"choose one of {', '.join(RUNS_ON[target.device])}"
        )
    if target.phase == "decode" and target.runtime == "torch-compile":
        raise InvalidInputError(
            f"target.phase=decode does not run on {target.runtime}, which compiles whole passes; "
            "choose target.runtime=onnxruntime or eager"
        )
    if target.device == "cuda" and not torch.cuda.is_available():
        raise UnsupportedError(
            f"target.device=cuda: torch {torch.__version__} sees no such device; choose target.device=cpu"
        )
    available = len(allowed_cores())
    if target.threads > available:
        raise InvalidInputError(
            f"target.threads={target.threads} is more than the {available} cores this process may use; "
            f"choose at most {available}"
        )


def allowed_cores() -> tuple[int, ...]:
    """The cores this process may run on, in order."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def timing_cores(threads: int) -> tuple[int, ...]:
    """The last `threads` of the allowed cores: interrupts mostly go to the first."""
    return allowed_cores()[-threads:]


@functools.cache
def device_facts() -> dict[str, Any]:
    """What is known of this machine, as JSON. Turbo, governor and SMT are recorded, never changed."""
    return {
        "cpu": _cpu_model(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 1,
        "allowed_cores": len(allowed_cores()),
        "system": f"{platform.system()} {platform.release()}",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "smt": _read("/sys/devices/system/cpu/smt/active"),
        "boost": _read("/sys/devices/system/cpu/cpufreq/boost"),
        "memory_bytes": _memory_bytes(),
        "python": platform.python_version(),
        **_gpu_facts(),
        "torch": _version("torch"),
        "onnxruntime": _version("onnxruntime"),
        "numpy": _version("numpy"),
    }


def device_key(target: Target, facts: Mapping[str, Any] | None = None) -> str:
    """Machine, threads and runtime with its version: latencies compare only at equal key. `facts`: of another
    machine, as `device_facts` gives them there."""
    facts = facts or device_facts()
    package = "onnxruntime" if target.runtime == "onnxruntime" else "torch"
    processor = facts["cpu"] if target.device == "cpu" else facts["gpu"]
    return (
        f"{target.device}/{processor}/{facts['cores']} cores/{target.threads} threads/"
        f"{target.runtime} {facts[package]}"
    )


def latency_fingerprint(target: Target, *, of: Literal["model", "block"] = "model") -> str:
    """Every condition a latency depends on besides the architecture or block."""
    return fingerprint(f"latency_{of}", EVALUATOR_VERSION, device=device_key(target), target=asdict(target))


def _cpu_model() -> str:
    for line in _read("/proc/cpuinfo", default="").splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine() or "unknown"


def _gpu_facts() -> dict[str, Any]:
    """Of the current CUDA device."""
    if not torch.cuda.is_available():
        return {"gpu": "none"}
    found = torch.cuda.get_device_properties()
    return {
        "gpu": found.name,
        "gpu_memory_bytes": found.total_memory,
        "gpu_processors": found.multi_processor_count,
        "gpu_l2_bytes": found.L2_cache_size,
        "gpu_capability": f"{found.major}.{found.minor}",
        "cuda": torch.version.cuda,
    }


def _memory_bytes() -> int | None:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _read(path: str, default: str = "unknown") -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return default


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
