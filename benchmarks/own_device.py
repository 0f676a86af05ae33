"""How well a model's latency is composed from its blocks on this machine, against measuring it whole.

    python benchmarks/own_device.py [--preset NAME]... [--count N] [--json] [--fresh]

Random architectures of a preset, ONNX Runtime, one thread, batch 1. Each is measured whole as the search
measures front candidates, and predicted twice: by the bare sum of its measured blocks, and by that sum with
the correction fitted on all the other architectures of its preset (leave one out), which is what a job has
after as many whole measurements. Error: predicted / measured - 1; tau: Kendall's, between the two orders.

Every architecture is written to `benchmarks/results/own_device.json` as soon as it is done; a run that was
interrupted goes on after the last one. `--fresh` forgets them. Results of another machine, runtime version or
seed are forgotten too.
"""

import argparse
import itertools
import json
import math
import os
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from evaluators.latency import (
    Target,
    composed_s,
    device_facts,
    fit_correction,
    latency_fingerprint,
    measure_blocks,
    measure_model,
    missing_blocks,
    predict_latency,
)
from evaluators.protocol import Measurement
from space.architecture import (
    Architecture,
    BytesInterface,
    ImageInterface,
    InterfaceConfig,
    parse_architecture,
)
from space.model import build_model
from space.quantization import NumberFormat, number_format
from space.sampling import sample
from space.search_space import load_preset

SEED = 0
TARGET = Target()
COUNTS = {"decoder-small": 15, "vision-small": 10}
INTERFACES: Mapping[str, InterfaceConfig] = {
    "decoder-small": BytesInterface(context_length=128, outputs=256),
    "encoder-small": BytesInterface(context_length=128, outputs=2),
    "vision-small": ImageInterface(height=8, width=8, patch_size=2, outputs=10),
}
"""Those of the tasks python-stdlib, a text classification, and digits."""
RESULT = Path(__file__).parent / "results" / "own_device.json"
SCRATCH = Path(tempfile.gettempdir()) / "paretoformer-own-device"
"""Keeps the reference network and its long-run latency between runs."""

Row = dict[str, Any]


def main() -> None:
    arguments = parsed_arguments()
    result = {} if arguments.fresh else stored()
    for preset in arguments.preset or list(COUNTS):
        own = result.setdefault("presets", {}).setdefault(preset, {"blocks": {}, "rows": []})
        for architecture in drawn(preset, arguments.count or COUNTS.get(preset, 10))[len(own["rows"]) :]:
            own["rows"].append(measured_row(architecture, own["blocks"]))
            own["summary"] = summary(own["rows"], own["blocks"])
            store(result)
            if not arguments.json:
                print(f"{preset}: {described(own['rows'][-1])}", flush=True)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for preset, own in result["presets"].items():
        for name in ("sum_of_blocks", "leave_one_out"):
            print(f"{preset:>14} {name:>14}: {in_words(own['summary'][name])}")


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", action="append", choices=sorted(INTERFACES), help="may be repeated")
    parser.add_argument("--count", type=int, help="architectures per preset")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")
    parser.add_argument("--fresh", action="store_true", help="forget earlier measurements")
    return parser.parse_args()


def drawn(preset: str, count: int) -> list[Architecture]:
    """Distinct random architectures; a greater count begins with those of a smaller one."""
    space = load_preset(preset).for_interface(INTERFACES[preset])
    names: tuple[NumberFormat, ...] = get_args(NumberFormat)
    space, _ = space.without_formats([n for n in names if TARGET.runtime not in number_format(n).real_on])
    rng = random.Random(SEED)
    found: dict[str, Architecture] = {}
    while len(found) < count:
        architecture = sample(space, rng)
        found.setdefault(architecture.id, architecture)
    return list(found.values())


def measured_row(architecture: Architecture, blocks: dict[str, Row]) -> Row:
    """Measures the blocks nobody has measured yet (added to `blocks`) and the whole."""
    missing = missing_blocks(architecture, TARGET, {id: row["value_s"] for id, row in blocks.items()})
    for block, found in zip(missing, measure_blocks(missing, TARGET, scratch=SCRATCH), strict=True):
        blocks[block.id] = {"block": block.name, **facts(found)}
    whole = measure_model(build_model(architecture, seed=0), architecture, TARGET, scratch=SCRATCH)
    return {
        "architecture_id": architecture.id,
        "architecture": json.loads(architecture.canonical_json),
        "measured": facts(whole),
        "reference_p10_s": whole.detail["reference_p10_s"],
        "scale": whole.detail["scale"],
        "load_1m": os.getloadavg()[0],
    }


def facts(found: Measurement) -> Row:
    """`spread_s`: half of the 95 % interval."""
    if found.value is None:
        raise SystemExit(f"{found.quantity}: {found.detail}")
    return {"value_s": found.value, "spread_s": found.spread, "flags": sorted(found.flags)}


def summary(rows: Sequence[Row], blocks: Mapping[str, Row]) -> dict[str, Any]:
    known = {id: block["value_s"] for id, block in blocks.items()}
    architectures = [parse_architecture(row["architecture"]) for row in rows]
    whole = [row["measured"]["value_s"] for row in rows]
    sums = [composed_s(architecture, TARGET, known) for architecture in architectures]
    pairs = list(zip(sums, whole, strict=True))
    corrections = [fit_correction([*pairs[:i], *pairs[i + 1 :]]) for i in range(len(pairs))]
    left_out = [
        predict_latency(architecture, TARGET, known, correction)
        for architecture, correction in zip(architectures, corrections, strict=True)
    ]
    inside = [
        abs(math.log(value / (prediction.value or math.nan))) <= correction.log_half_width
        for prediction, correction, value in zip(left_out, corrections, whole, strict=True)
    ]
    return {
        "architectures": len(rows),
        "flagged": sum(bool(row["measured"]["flags"]) for row in rows),
        "flagged_blocks": sum(bool(block["flags"]) for block in blocks.values()),
        "sum_of_blocks": errors(sums, whole),
        "leave_one_out": {
            **errors([prediction.value or math.nan for prediction in left_out], whole),
            "inside_95_interval": sum(inside) / len(inside),
        },
        "correction_of_all": asdict(fit_correction(pairs)),
    }


def errors(predicted: Sequence[float], whole: Sequence[float]) -> dict[str, float]:
    signed = [p / m - 1 for p, m in zip(predicted, whole, strict=True)]
    absolute = [abs(error) for error in signed]
    return {
        "median_abs_error": statistics.median(absolute),
        "p90_abs_error": float(np.percentile(absolute, 90)),
        "largest_abs_error": max(absolute),
        "median_error": statistics.median(signed),
        "lowest_error": min(signed),
        "highest_error": max(signed),
        "kendall_tau": kendall(predicted, whole),
    }


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Tau-a; latencies have no ties. 1 for fewer than two."""
    pairs = list(itertools.combinations(zip(a, b, strict=True), 2))
    signs = [np.sign(a1 - a2) * np.sign(b1 - b2) for (a1, b1), (a2, b2) in pairs]
    return float(np.mean(signs)) if signs else 1.0


def conditions() -> dict[str, Any]:
    """What results must share to stand in one file."""
    return {"latency": latency_fingerprint(TARGET), "seed": SEED, "target": asdict(TARGET)}


def stored() -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return result if result["conditions"] == conditions() else {}


def store(result: dict[str, Any]) -> None:
    result["conditions"] = conditions()
    result["machine"] = device_facts()
    result["presets"] = dict(sorted(result["presets"].items()))
    RESULT.parent.mkdir(exist_ok=True)
    unfinished = RESULT.with_suffix(".tmp")
    unfinished.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, RESULT)


def described(row: Row) -> str:
    layers = row["architecture"]["layers"]
    mixers = " ".join(layer["mixer"]["kind"] for layer in layers)
    flags = " ".join(row["measured"]["flags"])
    return (
        f"{row['measured']['value_s'] * 1e3:7.3f} ms  {len(layers)}x{row['architecture']['d_model']} "
        f"{layers[0]['number_format']} {mixers}  load {row['load_1m']:.1f} {flags}"
    )


def in_words(own: Mapping[str, float]) -> str:
    return (
        f"error {own['median_abs_error']:.1%} in the median, {own['p90_abs_error']:.1%} at the 90th "
        f"percentile ({own['lowest_error']:+.1%} to {own['highest_error']:+.1%}), "
        f"tau {own['kendall_tau']:.3f}"
    )


if __name__ == "__main__":
    main()
