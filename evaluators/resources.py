"""What a trained model takes besides time, where this machine can tell: memory, energy, and the noise of its
number formats.

    memory        peak resident bytes of one pass in a fresh process                    (`latency.memory`)
    energy        joules of one pass beyond an idle machine, from the machine's counter (`devices.energy`)
    quant_noise   the proxy of that name on the trained weights, with outliers that initial ones lack

Every one is a number with its conditions, or `unsupported` with the reason: nothing is estimated here.
"""

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from space.architecture import Architecture
from space.errors import EvaluationError, UnsupportedError
from space.export import export_onnx
from space.number_formats import apply_number_formats

from .devices import energy_counter, gpu_energy_counter, measure_energy
from .latency import Target, measure_memory, predictor, quiet_host
from .latency.runtimes import eager
from .latency.timed_input import random_input, timed_input
from .passes import quantization_noise
from .proxies.quant_noise import noise_score

HOST_WAIT_S = 600.0
NOISE_EXAMPLES = 16

Found = dict[str, Any]


def measure_resources(
    model: nn.Module,
    architecture: Architecture,
    target: Target,
    examples: Tensor,
    *,
    scratch: Path,
    calibration: Tensor | None = None,
    counter: Callable[[], float] | None = None,
) -> dict[str, Found]:
    """As JSON, by name; a pass is one over the whole sequence in every phase of the target.

    `examples`: inputs of the training part. `calibration` as in `measure_model`. `counter`: in place of the
    machine's.
    """

    def memory() -> Found:
        found = measure_memory(model, architecture, target, scratch=scratch, calibration=calibration)
        return {"bytes": found.value, "kind": found.kind, **found.detail}

    def energy() -> Found:
        counts = counter or (energy_counter() if target.device == "cpu" else gpu_energy_counter())
        with tempfile.TemporaryDirectory(prefix="energy-", dir=scratch) as folder:
            run = _one_pass(model, architecture, target, Path(folder), calibration)
            with quiet_host(HOST_WAIT_S), eager.conditions(target.threads):
                return {**asdict(measure_energy(run, counts)), "kind": "measured", "phase": "prefill"}

    def noise() -> Found:
        return trained_noise(model, architecture, examples, calibration=calibration)

    scratch.mkdir(parents=True, exist_ok=True)
    asked = (("memory", memory), ("energy", energy), ("quant_noise", noise))
    return {name: _answer(measure) for name, measure in asked}


def trained_noise(
    model: nn.Module, architecture: Architecture, examples: Tensor, *, calibration: Tensor | None = None
) -> Found:
    """`quant_noise` of a trained model, and the noise after every block and at the logits.

    Raises:
        UnsupportedError: nothing is quantized.
    """
    if set(architecture.number_formats) == {"fp32"}:
        raise UnsupportedError("every layer is in fp32: there is no quantization noise")
    chunk = slice(0, NOISE_EXAMPLES)
    noise = quantization_noise(model, architecture, examples, [chunk], calibration=calibration)
    return {"score": noise_score(noise), "noise": list(noise), "examples": len(examples[chunk])}


def _one_pass(
    model: nn.Module,
    architecture: Architecture,
    target: Target,
    folder: Path,
    calibration: Tensor | None,
) -> Callable[[], object]:
    values = random_input(timed_input(architecture, target.batch_size, target.tokens(architecture)))
    if target.runtime == "onnxruntime":
        path = export_onnx(model, architecture, folder / "model.onnx", calibration=calibration)
        predict, inputs = predictor(path, threads=target.threads), values.numpy()
        return lambda: predict(inputs)
    running = apply_number_formats(model, architecture, calibration=calibration)
    own = eager.placed(running, values, target)
    call = eager.timed_call(*own)

    def finished() -> object:
        result = call()
        torch.cuda.synchronize()  # else the clock ends before the device does
        return result

    return call if target.device == "cpu" else finished


def _answer(measure: Callable[[], Found]) -> Found:
    try:
        return {"status": "ok", **measure()}
    except UnsupportedError as error:
        return {"status": "unsupported", "reason": error.message}
    except EvaluationError as error:
        return {"status": "error", "reason": error.message}
