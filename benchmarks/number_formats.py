"""How long the products of each number format take in ONNX Runtime, against float32.

    python benchmarks/number_formats.py [--json]

A chain of 8 maps from `width` to `width`, batch 1, one thread on one core, at 1 and at 128 tokens. All
formats are timed in one process in rounds that visit every format once, each time in another order; a visit
repeats the call for about 2 ms. Seconds per product: 10th percentile and quartiles over the rounds. Ratio:
time over the time of fp32 in the same round, median and quartiles. int8_mixed has 4 frozen inputs per map.
Writes `benchmarks/results/number_formats.json` with the machine; `--json` prints it, too.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluators.latency.runtimes import eager
from evaluators.latency.runtimes.ort_process import bound, session
from evaluators.latency.target import device_facts
from space.export import export_module, onnx_form
from space.quantization import NumberFormat, number_format
from space.quantization.int8_mixed import THRESHOLD

FORMATS: tuple[NumberFormat, ...] = ("fp32", "int8_dynamic", "int8_mixed", "int4_g32", "int4_g64")
WIDTHS = (64, 128, 256, 512, 1024)
TOKENS = (1, 128)
PRODUCTS = 8
FROZEN = 4
ROUNDS = 60
VISIT_S = 2e-3
RESULT = Path(__file__).parent / "results" / "number_formats.json"


def chain(width: int, form: NumberFormat) -> nn.Module:
    """The same weights in every format."""
    torch.manual_seed(0)
    peaks = torch.zeros(width)
    peaks[:: width // FROZEN] = 2 * THRESHOLD
    maps = [nn.Linear(width, width, bias=False) for _ in range(PRODUCTS)]
    return onnx_form(nn.Sequential(*(number_format(form).convert(one, peaks) for one in maps)))


def callable_form(width: int, tokens: int, form: NumberFormat, folder: Path) -> Callable[[], object]:
    path = folder / f"{form}.onnx"
    axes = {"x": {0: "batch", 1: "length"}, "y": {0: "batch", 1: "length"}}
    export_module(chain(width, form), ("x", torch.zeros(1, tokens, width)), "y", axes, path)
    return bound(session(str(path), threads=1), {"shape": (1, tokens, width), "dtype": "float32"})


def seconds(run: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def timed(width: int, tokens: int) -> list[dict[str, Any]]:
    """One row per format."""
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as name:
        runs = {form: callable_form(width, tokens, form, Path(name)) for form in FORMATS}
    with eager.conditions(1):
        calls = {form: max(1, round(VISIT_S / seconds(run, 20))) for form, run in runs.items()}
        times: dict[str, list[float]] = {form: [] for form in FORMATS}
        for round_ in range(ROUNDS):
            for form in random.Random(round_).sample(FORMATS, len(FORMATS)):
                times[form].append(seconds(runs[form], calls[form]) / PRODUCTS)
    plain = np.array(times["fp32"])
    return [row(width, tokens, form, np.array(times[form]), plain) for form in FORMATS]


def row(width: int, tokens: int, form: str, own: np.ndarray, plain: np.ndarray) -> dict[str, Any]:
    p10, q1, median, q3 = np.percentile(own, [10, 25, 50, 75])
    low, middle, high = np.percentile(own / plain, [25, 50, 75])
    return {
        "width": width,
        "tokens": tokens,
        "number_format": form,
        "product_s": {"p10": p10, "q1": q1, "median": median, "q3": q3},
        "ratio": {"q1": low, "median": middle, "q3": high},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    as_json = parser.parse_args().json
    rows = [one for tokens in TOKENS for width in WIDTHS for one in timed(width, tokens)]
    result = {
        "machine": {**device_facts(), "threads": 1, "load_1m": Path("/proc/loadavg").read_text().split()[0]},
        "conditions": {
            "batch_size": 1,
            "products": PRODUCTS,
            "frozen_inputs": FROZEN,
            "rounds": ROUNDS,
            "visit_s": VISIT_S,
        },
        "results": rows,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        print(json.dumps(result))
        return
    for one in rows:
        ratio, product = one["ratio"], one["product_s"]
        print(
            f"{one['tokens']:>4} tokens, width {one['width']:>4}, {one['number_format']:>12}: "
            f"{1e6 * product['p10']:9.2f} us (median {1e6 * product['median']:.2f}), "
            f"{ratio['median']:.2f} of fp32 ({ratio['q1']:.2f}-{ratio['q3']:.2f})"
        )


if __name__ == "__main__":
    main()
