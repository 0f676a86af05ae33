"""Whole-model latency: the candidate in its number formats, on its runtime, with the host to itself.

A value is stored only for number formats that really ran. Every attempt takes the host alone; between
attempts the trainings go on.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from evaluators.protocol import Measurement
from space.architecture import Architecture
from space.errors import UnsupportedError
from space.export import export_onnx
from space.model import Model
from space.number_formats import apply_number_formats
from space.quantization import number_format as format_named

from .estimator import Estimate, EstimatorLimits, best_of, between, estimate, is_calm
from .host_lock import quiet_host
from .reference import (
    ReferenceHistory,
    reference_architecture,
    reference_file,
    reference_format,
    reference_model,
)
from .runtimes import eager
from .runtimes.onnxruntime import Failure, TimedFile, TimingTask, time_files
from .target import Target, check_target, device_facts, device_key, timing_cores
from .timed_input import random_input, timed_input

HOST_WAIT_S = 600.0

Attempt = Callable[[float | None], Estimate]
"""Long-run value of the reference, or None -> one attempt."""


def measure_model(
    model: nn.Module,
    architecture: Architecture,
    target: Target,
    *,
    limits: EstimatorLimits | None = None,
    scratch: Path,
    calibration: Tensor | None = None,
) -> Measurement:
    """10th percentile latency of one forward pass, or of one decode step; takes `quiet_host` itself.

    `model` is the fp32 form; number formats are applied here, with what they fix from `calibration`.
    `scratch` is a folder that stays between calls: it keeps the exported reference network and its long-run
    value on this machine.

    Raises:
        UnsupportedError: an operator or number format is not real on this runtime, or the model does not run
            token by token.
        EvaluationError: out of memory, timeout, or the timing process died.
    """
    check_target(target)
    _require_real(architecture, target)
    if target.runtime == "eager":
        running = apply_number_formats(model, architecture, calibration=calibration)
        return _measure_eager(running, architecture, target, limits or EstimatorLimits(), scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="candidate-", dir=scratch) as folder:
        path = export_onnx(model, architecture, Path(folder) / "model.onnx", calibration=calibration)
        return measure_onnx(path, architecture, target, limits=limits, scratch=scratch)


def measure_onnx(
    path: Path,
    architecture: Architecture,
    target: Target,
    *,
    limits: EstimatorLimits | None = None,
    scratch: Path,
) -> Measurement:
    """Latency of an exported file of `architecture` (whose number formats say what the file computes in)."""
    check_target(target)
    _require_real(architecture, target)
    limits = limits or EstimatorLimits()
    number_format = reference_format(architecture.number_formats)
    reference = TimedFile(reference_file(scratch, number_format), timed_input(reference_architecture(), 1))
    candidate = TimedFile(path, timed_input(architecture, target.batch_size, target.tokens(architecture)))

    def attempt(long_run_s: float | None) -> Estimate:
        task = TimingTask(candidate, reference, limits, long_run_s)
        (result,) = time_files([task], threads=target.threads)
        if isinstance(result, Failure):
            raise result.error()
        return result

    return _measured(attempt, architecture, target, limits, scratch)


def _require_real(architecture: Architecture, target: Target) -> None:
    """Raises UnsupportedError for a number format that the runtime only simulates."""
    for index, layer in enumerate(architecture.layers):
        if format_named(layer.number_format).execution(target.runtime) != "real":
            raise UnsupportedError(
                f"layer {index}: number format '{layer.number_format}' is simulated on {target.runtime} "
                "and has no latency there"
            )


def _measure_eager(
    running: nn.Module, architecture: Architecture, target: Target, limits: EstimatorLimits, scratch: Path
) -> Measurement:
    number_format = reference_format(architecture.number_formats)
    frozen = reference_architecture(number_format)
    own = random_input(timed_input(architecture, target.batch_size, target.tokens(architecture)))
    other = random_input(timed_input(frozen, 1))
    candidate, steps = eager.timed_call(running, own), 1
    if target.phase == "decode":
        assert isinstance(running, Model)
        candidate, steps = eager.decode_call(running, own)
    reference = eager.timed_call(apply_number_formats(reference_model(), frozen), other)

    def attempt(long_run_s: float | None) -> Estimate:
        with eager.conditions(target.threads):
            return estimate(
                candidate, reference, limits=limits, long_run_s=long_run_s, threads=target.threads
            ).per(steps)

    return _measured(attempt, architecture, target, limits, scratch)


def _measured(
    attempt: Attempt, architecture: Architecture, target: Target, limits: EstimatorLimits, scratch: Path
) -> Measurement:
    began = time.monotonic()
    history = ReferenceHistory(scratch, target, reference_format(architecture.number_formats))
    undisturbed: list[bool] = []

    def with_the_host_alone() -> Estimate:
        with quiet_host(HOST_WAIT_S) as quiet:
            undisturbed.append(quiet)
            result = attempt(history.long_run_s())
            if quiet and is_calm(result, limits) and not result.is_contended:
                history.add(result.reference_p10_s)
            return result

    rounds = [best_of(with_the_host_alone, limits=limits) for _ in range(max(1, limits.rounds))]
    result, half_width = between([one for one, _, _ in rounds])
    seen = Counter(flag for _, flags, _ in rounds for flag in flags)
    flags = {flag for flag, count in seen.items() if 2 * count > len(rounds)}
    if not all(undisturbed):
        flags |= {"contended"}
    return Measurement(
        quantity="latency_s",
        value=result.value_s,
        unit="s",
        kind="measured",
        spread=half_width * result.value_s,
        repeats=sum(one.runs for one, _, _ in rounds),
        flags=frozenset(flags),
        wall_s=time.monotonic() - began,
        detail={
            **asdict(result),
            "half_width": half_width,
            "rounds_s": [one.value_s for one, _, _ in rounds],
            "attempts": sum(made for _, _, made in rounds),
            "conditions": conditions(architecture, target),
            "device": device_facts(),
        },
    )


def conditions(architecture: Architecture, target: Target) -> dict[str, Any]:
    """Where and on what input the latency holds, as JSON."""
    return {
        **asdict(target),
        "length": target.tokens(architecture),
        "number_formats": [layer.number_format for layer in architecture.layers],
        "cores": list(timing_cores(target.threads)),
        "device_key": device_key(target),
        "warm_up": "until the last 5 runs are within 3 % of the best before, at most 50 runs or 5 s",
    }
