"""Whether clipped softmax and gated attention help int8 on a trained model.

    python -m benchmarks.int8_attention [--data DIR] [--steps S] [--seeds N] [--json FILE]

One small decoder per kind of attention, all else equal, trained on `python-stdlib` with the recipe of every
job: plain softmax, q and k normed (which a clipped one always has), clipped, and gated per head. Each is
evaluated on the whole validation part in fp32, in int8 as eager torch runs it (one scale per token) and in
int8 as ONNX Runtime runs it (one scale per tensor, which outliers hurt most). `loss_bits`: bits per byte that
int8 costs; `quant_noise`: the proxy on the trained weights, before training beside it; `peak`: the largest
activation between blocks over the root mean square, mean over blocks. DIR keeps the checkpoints, so that an
interrupted run goes on.
"""

import argparse
import json
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.latency import device_facts, predictor
from evaluators.resources import trained_noise
from evaluators.training import (
    TaskData,
    TrainingPlan,
    evaluate,
    load_weights,
    module_predictor,
    prepare_task,
    probe_batch,
    train,
)
from space.architecture import Architecture, BytesInterface, LanguageHead, LayerConfig
from space.export import export_onnx
from space.feedforward import GluConfig
from space.mixers import SoftmaxConfig
from space.model import Model, build_model
from space.norms import RMSNormConfig
from space.number_formats import apply_number_formats
from space.positions import RopeConfig

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "softmax": {},
    "softmax, q and k normed": {"qk_norm": True},
    "clipped softmax": {"clipped_softmax": 4},
    "gated per head": {"gated_attention": "per_head"},
}
LAYERS, WIDTH, HEADS = 4, 64, 4
EXAMPLES = 32
RESULT = Path(__file__).parent / "results" / "int8_attention.json"


def architecture(options: Mapping[str, Any], data: TaskData) -> Architecture:
    layer = LayerConfig(
        mixer=SoftmaxConfig(num_heads=HEADS, num_kv_heads=HEADS, **options),
        feed_forward=GluConfig(activation="silu", d_ff=168),
        norm=RMSNormConfig(),
    )
    interface = data.interface()
    assert isinstance(interface, BytesInterface)
    return Architecture(
        model="decoder",
        interface=interface,
        d_model=WIDTH,
        position=RopeConfig(),
        layers=(layer,) * LAYERS,
        final_norm=RMSNormConfig(),
        head=LanguageHead(),
    )


def one(options: Mapping[str, Any], data: TaskData, steps: int, seed: int, folder: Path) -> dict[str, float]:
    """Numbers of one trained model."""
    plain = architecture(options, data)
    quantized = plain.with_number_format("int8_dynamic")
    plan = TrainingPlan(steps=steps, batch_size=data.batch_size)
    result = train(plain, data, plan, seed=seed, until=steps, folder=folder)
    assert result.checkpoint is not None
    model = build_model(plain, seed=0)
    load_weights(model, result.checkpoint)
    model.eval()
    examples = torch.from_numpy(probe_batch(data, EXAMPLES)[0])
    with TemporaryDirectory() as name:
        path = export_onnx(model, quantized, Path(name) / "model.onnx")
        bits = {
            "fp32": quality(module_predictor(model), data),
            "int8_eager": quality(module_predictor(apply_number_formats(model, quantized)), data),
            "int8_onnx": quality(predictor(path), data),
        }
    return {
        **{f"{name}_bits": value for name, value in bits.items()},
        "int8_eager_loss_bits": bits["int8_eager"] - bits["fp32"],
        "int8_onnx_loss_bits": bits["int8_onnx"] - bits["fp32"],
        "quant_noise": trained_noise(model, quantized, examples)["score"],
        "quant_noise_untrained": trained_noise(build_model(plain, seed=seed), quantized, examples)["score"],
        "peak": peak(model, examples),
    }


def quality(predict: Any, data: TaskData) -> float:
    return float(evaluate(predict, data, "validation").values["bits_per_byte"])


def peak(model: Model, examples: Tensor) -> float:
    """max |x| over the root mean square of what every block gives, mean over blocks."""
    seen: list[float] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(float(output.abs().max() / output.square().mean().sqrt()))

    hooks = [block.register_forward_hook(note) for block in model.get_submodule("blocks").children()]
    try:
        with torch.inference_mode():
            model(examples)
    finally:
        for hook in hooks:
            hook.remove()
    return statistics.fmean(seen)


def summary(rows: list[dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation of every number; of one seed there is no deviation."""
    return {
        key: {
            "mean": statistics.fmean(row[key] for row in rows),
            "deviation": statistics.stdev(row[key] for row in rows) if len(rows) > 1 else None,
        }
        for key in rows[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("paretoformer-data") / "int8_attention")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=RESULT)
    given = parser.parse_args()
    data = prepare_task("language-model", "python-stdlib")
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for seed in range(given.seeds):
        for name, options in VARIANTS.items():
            rows[name].append(one(options, data, given.steps, seed, given.data))
            print(name, seed, {key: round(value, 4) for key, value in rows[name][-1].items()}, flush=True)
    found = {name: {"summary": summary(own), "seeds": own} for name, own in rows.items()}
    result = {
        "machine": {**device_facts(), "load_1m": Path("/proc/loadavg").read_text().split()[0]},
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "conditions": {
            "task": "python-stdlib",
            "layers": LAYERS,
            "d_model": WIDTH,
            "steps": given.steps,
            "seeds": given.seeds,
        },
        "results": found,
    }
    given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
