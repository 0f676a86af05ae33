"""Whole-model latency: the candidate in its number formats, on its runtime, with the host to itself.

A value is stored only for number formats that really ran. Every attempt takes the host alone; between
attempts, and while a network compiles, the trainings go on.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.protocol import Measurement
from space.architecture import Architecture
from space.errors import UnsupportedError
from space.export import export_onnx, export_step
from space.kernels.dispatch import recorded
from space.model import Model
from space.number_formats import apply_number_formats
from space.quantization import number_format as format_named

from .estimator import Estimate, EstimatorLimits, best_of, between, flags_over, is_calm
from .host_lock import quiet_host
from .reference import (
    ReferenceHistory,
    reference_architecture,
    reference_file,
    reference_format,
    reference_model,
)
from .runtimes import Failure, Subject, TimedFile, TimingTask, compiled_process, eager, time_files
from .runtimes.eager import DECODE_STEPS
from .target import Device, Target, check_target, device_facts, device_key, timing_cores
from .timed_input import random_input, timed_input

HOST_WAIT_S = 600.0
WARM_UP: Mapping[Device, str] = {
    "cpu": "until the last 5 runs are within 3 % of the best before, at most 50 runs or 5 s",
    "cuda": "10 runs and 200 ms of the device, at most 1000 runs",
}
COMPILED = "compiled"
"""Folder of compiled kernels below a scratch folder."""

Attempt = Callable[[float | None], Estimate]
"""Long-run value of the reference, or None -> one attempt."""
Round = Callable[[], AbstractContextManager[Attempt]]
"""What a round needs before the host is taken, for as long as it lasts."""


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
    if target.runtime in ("eager", "cudagraph"):
        running = apply_number_formats(model, architecture, calibration=calibration)
        return _measure_eager(running, architecture, target, limits or EstimatorLimits(), scratch)
    if target.runtime == "torch-compile":
        return _measure_compiled(architecture, target, limits or EstimatorLimits(), scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="candidate-", dir=scratch) as folder:
        path = Path(folder) / "model.onnx"
        if target.phase == "decode":
            assert isinstance(model, Model)
            steps = write_steps(model, architecture, target, path.with_suffix(".npz"))
            export_step(model, architecture, path, calibration=calibration)
            return measure_onnx(path, architecture, target, limits=limits, scratch=scratch, steps=steps)
        export_onnx(model, architecture, path, calibration=calibration)
        return measure_onnx(path, architecture, target, limits=limits, scratch=scratch)


def measure_onnx(
    path: Path,
    architecture: Architecture,
    target: Target,
    *,
    limits: EstimatorLimits | None = None,
    scratch: Path,
    steps: Path | None = None,
) -> Measurement:
    """Latency of an exported file of `architecture` (whose number formats say what the file computes in); of
    one decode step with `steps`, as `write_steps` writes them."""
    check_target(target)
    _require_real(architecture, target)
    limits = limits or EstimatorLimits()
    number_format = reference_format(architecture.number_formats)
    reference = TimedFile(reference_file(scratch, number_format), timed_input(reference_architecture(), 1))
    tokens = target.tokens(architecture)
    candidate = TimedFile(path, timed_input(architecture, target.batch_size, tokens), steps)
    count = 1 if steps is None else min(tokens, DECODE_STEPS)

    def attempt(long_run_s: float | None) -> Estimate:
        task = TimingTask(candidate, reference, limits, long_run_s)
        (result,) = time_files([task], threads=target.threads)
        if isinstance(result, Failure):
            raise result.error()
        return result.per(count)

    return _measured(lambda: contextlib.nullcontext(attempt), architecture, target, limits, scratch)


def measure_module(
    running: nn.Module,
    architecture: Architecture,
    target: Target,
    *,
    limits: EstimatorLimits | None = None,
    scratch: Path,
) -> Measurement:
    """Latency of one pass of any module in eager torch; `architecture` says in which number formats."""
    check_target(target)
    return _measure_eager(running, architecture, target, limits or EstimatorLimits(), scratch)


def write_steps(model: Model, architecture: Architecture, target: Target, path: Path) -> Path:
    """The last tokens of a sequence and the state before them, as the decode step of a file takes them."""
    tokens = random_input(timed_input(architecture, target.batch_size, target.tokens(architecture)))
    start = max(0, tokens.shape[1] - DECODE_STEPS)
    with torch.inference_mode():
        model.eval()
        state = model.prefill(tokens[:, :start])[1] if start else model.init_state(len(tokens))
    arrays = {
        f"state.{layer}.{name}": value.numpy()
        for layer, kept in enumerate(state)
        for name, value in kept.items()
    }
    arrays |= {"tokens": tokens[:, start:].T.numpy(), "start": np.array(start)}
    np.savez(path, **arrays)  # type: ignore[arg-type]  # its stubs take keywords for allow_pickle
    return path


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
    """With which fused kernels ran, or why not (`kernels`), as one pass before the first run finds it."""
    number_format = reference_format(architecture.number_formats)
    frozen = reference_architecture(number_format)
    own = random_input(timed_input(architecture, target.batch_size, target.tokens(architecture)))
    other = random_input(timed_input(frozen, 1))
    running, own = eager.placed(running, own, target)
    candidate, steps = eager.timed_call(running, own), 1
    if target.phase == "decode":
        assert isinstance(running, Model)
        candidate, steps = eager.decode_call(running, own)
    reference = eager.timed_call(
        *eager.placed(apply_number_formats(reference_model(), frozen), other, target)
    )

    def attempt(long_run_s: float | None) -> Estimate:
        return eager.estimate_on(target, candidate, reference, limits=limits, long_run_s=long_run_s).per(
            steps
        )

    with eager.conditions(target.threads), recorded() as kernels:
        candidate()
    found = _measured(lambda: contextlib.nullcontext(attempt), architecture, target, limits, scratch)
    return replace(found, detail={**found.detail, "kernels": kernels})


def _measure_compiled(
    architecture: Architecture, target: Target, limits: EstimatorLimits, scratch: Path
) -> Measurement:
    """With what compiling took (`compile_s`), the longest of the rounds: later ones find kernels made."""
    frozen = reference_architecture(reference_format(architecture.number_formats))
    subjects = {
        "reference": Subject(frozen.canonical_json, 1, frozen.tokens),
        "candidate": Subject(architecture.canonical_json, target.batch_size, target.tokens(architecture)),
    }
    compile_s: list[float] = []

    @contextlib.contextmanager
    def compiled() -> Iterator[Attempt]:
        with compiled_process(threads=target.threads, cache=scratch / COMPILED) as process:
            for key, subject in subjects.items():
                seconds = process.compile(key, subject)
                if isinstance(seconds, Failure):
                    raise seconds.error()
                if key == "candidate":
                    compile_s.append(seconds)

            def attempt(long_run_s: float | None) -> Estimate:
                result = process.time("candidate", "reference", limits, long_run_s)
                if isinstance(result, Failure):
                    raise result.error()
                return result

            yield attempt

    found = _measured(compiled, architecture, target, limits, scratch)
    return replace(found, detail={**found.detail, "compile_s": max(compile_s)})


def _measured(
    prepared: Round, architecture: Architecture, target: Target, limits: EstimatorLimits, scratch: Path
) -> Measurement:
    began = time.monotonic()
    history = ReferenceHistory(scratch, target, reference_format(architecture.number_formats))
    undisturbed: list[bool] = []

    def with_the_host_alone(attempt: Attempt) -> Estimate:
        with quiet_host(HOST_WAIT_S) as quiet:
            undisturbed.append(quiet)
            result = attempt(history.long_run_s())
            if quiet and is_calm(result, limits) and not result.is_contended:
                history.add(result.reference_p10_s)
            return result

    def one_round() -> tuple[Estimate, frozenset[str], int]:
        with prepared() as attempt:
            return best_of(lambda: with_the_host_alone(attempt), limits=limits)

    rounds = [one_round() for _ in range(max(1, limits.rounds))]
    result, half_width = between([one for one, _, _ in rounds])
    flags = flags_over([found for _, found, _ in rounds], half_width, limits)
    if not all(undisturbed):
        flags |= {"contended"}
    return Measurement(
        quantity="latency_s",
        value=result.value_s,
        unit="s",
        kind="measured",
        spread=half_width * result.value_s,
        repeats=sum(one.runs for one, _, _ in rounds),
        flags=flags,
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
        "warm_up": WARM_UP[target.device],
    }
