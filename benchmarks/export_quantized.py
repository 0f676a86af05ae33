"""What quantized files lose and gain: exported models as float32, dynamic and static int8, and 4-bit weights.

    python benchmarks/export_quantized.py [--models N] [--steps S] [--data DIR] [--json FILE]

N architectures drawn from `decoder-small`, of every mixer family in turn, layers in float32, are trained on
`python-stdlib` for S steps and exported as the program does. Of every file: bits per byte on the validation
part, latency of one pass (ONNX Runtime, one thread, one sequence of the full context), size. The files of
one model are timed one after the other, forth and back, and the two values averaged: what disturbs the
machine for longer disturbs all of them. Loss is the file's quality minus float32's, speed-up float32's
latency over the file's; the table has medians and extremes over the models. Every model is written to FILE
when it is done, and a run that was interrupted goes on after the last one.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import torch

from evaluators.curves import mixer_family
from evaluators.curves.mixer_families import FAMILIES
from evaluators.export_measures import file_quality
from evaluators.latency import EstimatorLimits, Target, device_facts, measure_onnx
from evaluators.training import (
    TaskData,
    TrainingPlan,
    calibration_batch,
    load_weights,
    prepare_task,
    train,
)
from space.architecture import Architecture
from space.export import write_onnx_files
from space.model import build_model
from space.sampling import sample
from space.search_space import load_preset

TASK = "python-stdlib"
PRESET = "decoder-small"
FILES = {
    "fp32": "model.onnx",
    "int8": "model.int8.onnx",
    "int8-static": "model.int8-static.onnx",
    "int4": "model.int4.onnx",
}
LIMITS = EstimatorLimits(max_seconds=4.0, attempts=2, rounds=2)
RESULTS = Path(__file__).parent / "results"


def drawn(data: TaskData, number: int) -> Architecture:
    """The architecture of a number in float32; its mixer family goes round."""
    space = load_preset(PRESET).for_interface(data.interface())
    rng, wanted = Random(f"export/{number}"), FAMILIES[number % len(FAMILIES)]
    while True:
        architecture = sample(space, rng).with_number_format("fp32")
        if mixer_family(architecture) == wanted:
            return architecture


def measured(
    architecture: Architecture, data: TaskData, steps: int, folder: Path, scratch: Path
) -> dict[str, Any]:
    """Trains one architecture and measures all of its files."""
    plan = TrainingPlan(steps=steps, batch_size=data.batch_size)
    result = train(architecture, data, plan, seed=0, until=steps, folder=folder)
    assert result.checkpoint is not None
    model = build_model(architecture, seed=0)
    load_weights(model, result.checkpoint)
    model.eval()
    calibration = torch.from_numpy(calibration_batch(data))
    with TemporaryDirectory() as name:
        files = Path(name)
        described: dict[str, Architecture] = {}
        for quantize in ("int8", "int8-static", "int4"):
            described |= write_onnx_files(
                model, architecture, files, quantize=quantize, calibration=calibration
            )
        found = {
            key: {
                "bits_per_byte": file_quality(files / file, data)["values"]["bits_per_byte"],
                "size_bytes": (files / file).stat().st_size,
            }
            for key, file in FILES.items()
        }
        latencies: dict[str, list[float]] = {key: [] for key in FILES}
        flags: set[str] = set()
        for key in (*FILES, *reversed(FILES)):
            value = measure_onnx(
                files / FILES[key], described[FILES[key]], Target(), scratch=scratch, limits=LIMITS
            )
            assert value.value is not None
            latencies[key].append(value.value)
            flags |= value.flags
    return {
        "architecture": json.loads(architecture.canonical_json),
        "params": sum(p.numel() for p in model.parameters()),
        "files": {
            key: {**found[key], "latency_s": statistics.mean(latencies[key]), "latencies_s": latencies[key]}
            for key in FILES
        },
        "flags": sorted(flags),
    }


def summary(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Per quantized file the loss and the speed-up over all models."""
    rows = {}
    for key in list(FILES)[1:]:
        pairs = [(model["files"][key], model["files"]["fp32"]) for model in models]
        losses = [a["bits_per_byte"] - b["bits_per_byte"] for a, b in pairs]
        speedups = [b["latency_s"] / a["latency_s"] for a, b in pairs]
        sizes = [a["size_bytes"] / b["size_bytes"] for a, b in pairs]
        rows[key] = {
            "models": len(pairs),
            "loss_bits_per_byte": _spread(losses),
            "speedup": _spread(speedups),
            "size": _spread(sizes),
            "faster": sum(one > 1 for one in speedups),
        }
    return rows


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--data", type=Path, default=Path(gettempdir()) / "paretoformer-export-quantized")
    parser.add_argument("--json", type=Path, default=RESULTS / "export_quantized.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = prepare_task("language-model", TASK)
    stored = json.loads(given.json.read_text()) if given.json.exists() else {"models": []}
    models = stored["models"] if stored.get("steps", given.steps) == given.steps else []
    given.data.mkdir(parents=True, exist_ok=True)
    for number in range(len(models), given.models):
        architecture = drawn(data, number)
        models.append(measured(architecture, data, given.steps, given.data, given.data / "latency"))
        report = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": device_facts(),
            "task": TASK,
            "preset": PRESET,
            "steps": given.steps,
            "summary": summary(models),
            "models": models,
        }
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(number, architecture.layers[0].mixer.kind, json.dumps(summary(models)))


if __name__ == "__main__":
    main()
