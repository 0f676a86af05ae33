"""This machine as a device: arithmetic, bandwidth and launch fitted to twelve measured micro-kernels.

    minimise sum over kernels of rho(log t(kernel) - log measured),    t by `roofline`, every parameter >= 0

rho is Huber's: one kernel that a runtime does badly must not move the others. Peaks found are what the
kernels reached, so the usage is 1.
"""

import datetime as dt
import itertools
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from jaxtyping import Float64
from torch import nn

from evaluators.latency import EstimatorLimits, Target, check_target, device_facts, quiet_host
from evaluators.latency.estimator import Estimate, estimate
from evaluators.latency.reference import reference_architecture, reference_file, reference_model
from evaluators.latency.runtimes import Failure, InputShape, TimedFile, TimingTask, eager, time_files
from evaluators.latency.timed_input import random_input, timed_input
from space.errors import EvaluationError, UnsupportedError
from space.export import export_module, onnx_form

from .micro_kernels import MicroKernel, micro_kernels
from .operators import Operator
from .roofline import operator_s
from .table import USAGE, Device, Quoted, Usage

LIMITS = EstimatorLimits(max_seconds=1.0, max_runs=200, attempts=1)
HOST_WAIT_S = 600.0
LEAST_S = 5e-7
"""A kernel is no faster than this, whatever the empty call took."""
SOURCE = "calibration"
STARTS = tuple(itertools.product((1e9, 1e11), (1e9, 3e10), (1e-7, 1e-5)))
"""FLOP/s, bytes/s and seconds of a launch from which the fit begins: the roofline has corners, where a single
descent stops."""
HUBER = 0.2

Parameters = Float64[np.ndarray, " parameters"]
Errors = Float64[np.ndarray, " kernels"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fitted device, and how well it explains its kernels."""

    device: Device
    measured_s: Mapping[str, float]
    fitted_s: Mapping[str, float]
    at: dt.datetime

    @property
    def rms_log_error(self) -> float:
        logs = [math.log(self.fitted_s[name] / seconds) for name, seconds in self.measured_s.items()]
        return math.sqrt(sum(log**2 for log in logs) / len(logs))

    def described(self) -> dict[str, Any]:
        """As JSON; `Device` reads its part back."""
        return {
            "device": self.device.model_dump(mode="json", exclude_none=True),
            "kernels": {
                name: {"measured_s": seconds, "fitted_s": self.fitted_s[name]}
                for name, seconds in self.measured_s.items()
            },
            "rms_log_error": self.rms_log_error,
            "at": self.at.isoformat(),
        }


def calibrate(target: Target, *, limits: EstimatorLimits = LIMITS, scratch: Path) -> Calibration:
    """Measures the kernels on this machine (some 20 s) and fits it; takes `quiet_host` itself.

    Raises:
        EvaluationError: a kernel could not be timed.
        UnsupportedError: the kernels have no form on the target's runtime or device.
    """
    check_target(target)
    if target.device != "cpu" or target.runtime not in ("onnxruntime", "eager"):
        raise UnsupportedError(
            f"calibrating {target.runtime} on {target.device} is not supported; choose onnxruntime or eager "
            "on cpu"
        )
    scratch.mkdir(parents=True, exist_ok=True)
    kernels = micro_kernels()
    with quiet_host(HOST_WAIT_S):
        timed = _timed_eager if target.runtime == "eager" else _timed_onnx
        seconds = timed(kernels, target, limits, scratch)
    return fit(seconds, target)


def fit(seconds: Mapping[str, float], target: Target) -> Calibration:
    """The device that explains the seconds of the micro-kernels best."""
    kernels = micro_kernels()
    names = [name for name in kernels if name in seconds]
    logs = np.log([seconds[name] for name in names])
    operators = [kernels[name].operator for name in names]

    def errors(parameters: Parameters) -> Errors:
        return np.log(_seconds(operators, _device(parameters, target))) - logs

    descents = [
        scipy.optimize.least_squares(
            errors, np.log([flops, flops, *rest]), loss="huber", f_scale=HUBER, diff_step=1e-3
        )
        for flops, *rest in STARTS
    ]
    device = _device(min(descents, key=lambda found: float(found.cost)).x, target)
    fitted = dict(zip(names, _seconds(operators, device), strict=True))
    return Calibration(device, {name: seconds[name] for name in names}, fitted, dt.datetime.now(dt.UTC))


def _seconds(operators: list[Operator], device: Device) -> list[float]:
    return [operator_s(operator, device)[0] for operator in operators]


def _device(logs: Parameters, target: Target) -> Device:
    fp32, int8, bandwidth, launch = (float(value) for value in np.exp(np.clip(logs, -40, 80)))
    usual = USAGE["cpu"]
    facts = device_facts()
    memory = facts["memory_bytes"]
    return Device(
        name=f"this-machine-{target.runtime}-{target.threads}",
        title=f"{facts['cpu']}, {target.threads} threads, {target.runtime}",
        kind="cpu",
        dense=True,
        peaks={"fp32": _quoted(fp32), "int8": _quoted(int8)},
        bandwidth=_quoted(bandwidth),
        memory=_quoted(float(memory)) if memory else None,
        usage=Usage(compute=1.0, memory=1.0, launch_s=launch, full_rows=usual.full_rows, tile=usual.tile),
    )


def _quoted(value: float) -> Quoted:
    return Quoted(value=value, source=SOURCE)


def _timed_onnx(
    kernels: Mapping[str, MicroKernel], target: Target, limits: EstimatorLimits, scratch: Path
) -> dict[str, float]:
    """Less what a call of an empty network takes: inside a model no operator pays it."""
    reference = TimedFile(reference_file(scratch, "fp32"), timed_input(reference_architecture(), 1))
    empty = MicroKernel(nn.Identity, InputShape((1, 1, 1)), Operator("norm", 0.0, 0.0))
    with tempfile.TemporaryDirectory(prefix="kernels-", dir=scratch) as folder:
        tasks = [
            TimingTask(_exported(kernel, Path(folder) / f"{index}.onnx"), reference, limits)
            for index, kernel in enumerate((empty, *kernels.values()))
        ]
        call, *results = time_files(tasks, threads=target.threads)
    call_s = _value(call, "empty call")
    return {
        name: max(LEAST_S, _value(result, name) - call_s)
        for name, result in zip(kernels, results, strict=True)
    }


def _exported(kernel: MicroKernel, path: Path) -> TimedFile:
    example = torch.zeros(kernel.input.shape)
    export_module(onnx_form(kernel.build()), ("x", example), "y", {"x": {0: "batch"}}, path)
    return TimedFile(path, kernel.input)


def _timed_eager(
    kernels: Mapping[str, MicroKernel], target: Target, limits: EstimatorLimits, scratch: Path
) -> dict[str, float]:
    """Calls from Python, as every operator of an eager model is one."""
    own = eager.timed_call(reference_model(), random_input(timed_input(reference_architecture(), 1)))
    found = {}
    with eager.conditions(target.threads):
        for name, kernel in kernels.items():
            candidate = eager.timed_call(kernel.build(), random_input(kernel.input))
            found[name] = estimate(candidate, own, limits=limits, threads=target.threads).value_s
    return found


def _value(result: Estimate | Failure, name: str) -> float:
    if isinstance(result, Failure):
        raise EvaluationError(f"micro-kernel '{name}' was not timed: {result.message}", reason=result.reason)
    return result.value_s
