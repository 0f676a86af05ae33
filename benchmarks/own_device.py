"""How well a model's latency is composed from its blocks on this machine, against measuring it whole.

    python benchmarks/own_device.py [--preset NAME]... [--count N] [--minutes M] [--json FILE] [--fresh]

Random architectures of a preset, ONNX Runtime, one thread, batch 1. Each is measured whole as the search
measures front candidates, and predicted three times: by the bare sum of its measured blocks; by that sum with
the correction fitted on all the other architectures of its preset (leave one out), which is what a job has
after as many whole measurements; and by the roofline of this machine as `device calibrate` fits it. Error:
predicted / measured - 1; tau: Kendall's, between the two orders. A flagged value is one whose measurement was
disturbed (`contended`) or did not repeat to 5 % (`noisy`); errors stand without those too.

Every architecture is written to `benchmarks/results/own_device.json` as soon as it is done, the presets in
turn; a run that was interrupted, or whose minutes are over, goes on after the last one. `--fresh` forgets
them. Results of another machine, runtime version or seed are forgotten too.
"""

import argparse
import itertools
import json
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from evaluators.devices import Device, analytic, calibrate
from evaluators.latency import (
    Target,
    composition,
    device_facts,
    fit_correction,
    latency_fingerprint,
    measure_blocks,
    measure_model,
    missing_blocks,
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
COUNTS = {"decoder-small": 60, "vision-small": 60}
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
    ends = time.monotonic() + 60 * arguments.minutes
    result = {} if arguments.fresh else stored(arguments.json)
    if "calibration" not in result:
        result["calibration"] = calibrate(TARGET, scratch=SCRATCH).described()
    machine = Device.model_validate(result["calibration"]["device"])
    waiting = {
        preset: drawn(preset, arguments.count or COUNTS.get(preset, 60))
        for preset in arguments.preset or COUNTS
    }
    for index in range(max(len(models) for models in waiting.values())):
        for preset, models in waiting.items():
            own = result.setdefault("presets", {}).setdefault(preset, {"blocks": {}, "rows": []})
            if time.monotonic() > ends or not len(own["rows"]) == index < len(models):
                continue
            own["rows"].append(measured_row(models[index], own["blocks"]))
            store(result, arguments.json)
            print(f"{preset}: {described(own['rows'][-1])}", flush=True)
    for own in result["presets"].values():
        own["summary"] = summary(own["rows"], own["blocks"], machine)
    store(result, arguments.json)
    for preset, own in result["presets"].items():
        for name, errors_ in own["summary"].items():
            if isinstance(errors_, Mapping) and "within_10" in errors_:
                print(f"{preset:>14} {name:>14}: {in_words(errors_)}")


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", action="append", choices=sorted(INTERFACES), help="may be repeated")
    parser.add_argument("--count", type=int, help="architectures per preset")
    parser.add_argument("--minutes", type=float, default=30.0, help="no architecture is begun later")
    parser.add_argument("--data", type=Path, help="not used: the architectures are sampled")
    parser.add_argument("--json", type=Path, default=RESULT, help="where the result goes and is continued")
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
        "load_1m": os.getloadavg()[0],
    }


def facts(found: Measurement) -> Row:
    """`spread_s`: half of the 95 % interval."""
    if found.value is None:
        raise SystemExit(f"{found.quantity}: {found.detail}")
    of_reference = {key: found.detail[key] for key in ("reference_p10_s", "scale")}
    return {"value_s": found.value, "spread_s": found.spread, "flags": sorted(found.flags), **of_reference}


def summary(rows: Sequence[Row], blocks: Mapping[str, Row], machine: Device) -> dict[str, Any]:
    known = {id: block["value_s"] for id, block in blocks.items()}
    architectures = [parse_architecture(row["architecture"]) for row in rows]
    whole = [row["measured"]["value_s"] for row in rows]
    composed = [composition(architecture, TARGET, known) for architecture in architectures]
    pairs = [one.pair(value) for one, value in zip(composed, whole, strict=True)]
    corrections = [fit_correction([*pairs[:i], *pairs[i + 1 :]]) for i in range(len(pairs))]
    given = [fit.of(one.shares) for fit, one in zip(corrections, composed, strict=True)]
    left_out = [one.total_s * math.exp(bias) for one, (bias, _) in zip(composed, given, strict=True)]
    inside = [
        abs(math.log(value / predicted)) <= half_width
        for value, predicted, (_, half_width) in zip(whole, left_out, given, strict=True)
    ]
    calm = [index for index, row in enumerate(rows) if not row["measured"]["flags"]]
    found: dict[str, Any] = {
        "architectures": len(rows),
        "flagged": len(rows) - len(calm),
        "flagged_blocks": sum(bool(block["flags"]) for block in blocks.values()),
        "sum_of_blocks": errors([one.total_s for one in composed], whole),
        "leave_one_out": {
            **errors(left_out, whole),
            "inside_95_interval": sum(inside) / len(inside),
            "median_half_width": statistics.median(math.expm1(half_width) for _, half_width in given),
        },
        "roofline": errors([analytic(one, machine).seconds for one in architectures], whole),
        "correction_of_all": {**fit_correction(pairs).described(), "weights": fit_correction(pairs).weights},
    }
    if calm:
        found["leave_one_out_calm"] = errors([left_out[i] for i in calm], [whole[i] for i in calm])
    return found


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
        "within_10": sum(error <= 0.1 for error in absolute) / len(absolute),
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


def stored(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return result if result["conditions"] == conditions() else {}


def store(result: dict[str, Any], path: Path) -> None:
    result["conditions"] = conditions()
    result["machine"] = device_facts()
    result["presets"] = dict(sorted(result["presets"].items()))
    result["date"] = time.strftime("%Y-%m-%d")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


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
        f"{own['within_10']:.0%} within 10 %, "
        f"tau {own['kendall_tau']:.3f}"
    )


if __name__ == "__main__":
    main()
