"""How long the products of each number format take in ONNX Runtime and in eager torch, against float32.

    python benchmarks/number_formats.py [--json]

A chain of 8 maps from `width` to `width`, batch 1, one thread on one core, at 1 and at 128 tokens. In eager
torch int8 is our own W8A8 on `torch._int_mm`, quantization of the activations included. All formats of a
runtime are timed in one process in rounds that visit every format once, each time in another order; a visit
repeats the call for about 2 ms. Seconds per product: 10th percentile and quartiles over the rounds. Ratio:
time over the time of fp32 in the same round, median and quartiles. int8_mixed has 4 frozen inputs per map.
Writes `benchmarks/results/number_formats.json` with the machine; `--json` prints it, too.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping
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

FORMATS: Mapping[str, tuple[NumberFormat, ...]] = {
    "onnxruntime": ("fp32", "int8_dynamic", "int8_mixed", "int4_g32", "int4_g64"),
    "eager": ("fp32", "bf16", "int8_dynamic", "int8_mixed"),
}
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
    return nn.Sequential(*(number_format(form).convert(one, peaks) for one in maps)).eval()


def callable_form(
    runtime: str, width: int, tokens: int, form: NumberFormat, folder: Path
) -> Callable[[], object]:
    if runtime == "eager":
        values = torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(0))
        return eager.timed_call(chain(width, form), values)
    path = folder / f"{form}.onnx"
    axes = {"x": {0: "batch", 1: "length"}, "y": {0: "batch", 1: "length"}}
    export_module(onnx_form(chain(width, form)), ("x", torch.zeros(1, tokens, width)), "y", axes, path)
    return bound(session(str(path), threads=1), {"shape": (1, tokens, width), "dtype": "float32"})


def seconds(run: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def timed(runtime: str, width: int, tokens: int) -> list[dict[str, Any]]:
    """One row per format."""
    formats = FORMATS[runtime]
    with tempfile.TemporaryDirectory(prefix="paretoformer-") as name:
        runs = {form: callable_form(runtime, width, tokens, form, Path(name)) for form in formats}
    with eager.conditions(1):
        calls = {form: max(1, round(VISIT_S / seconds(run, 20))) for form, run in runs.items()}
        times: dict[str, list[float]] = {form: [] for form in formats}
        for round_ in range(ROUNDS):
            for form in random.Random(round_).sample(formats, len(formats)):
                times[form].append(seconds(runs[form], calls[form]) / PRODUCTS)
    plain = np.array(times["fp32"])
    rows = [row(width, tokens, form, np.array(times[form]), plain) for form in formats]
    return [{"runtime": runtime, **one} for one in rows]


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
    rows = [
        one
        for runtime in FORMATS
        for tokens in TOKENS
        for width in WIDTHS
        for one in timed(runtime, width, tokens)
    ]
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
            f"{one['runtime']:>11}, {one['tokens']:>4} tokens, width {one['width']:>4}, "
            f"{one['number_format']:>12}: "
            f"{1e6 * product['p10']:9.2f} us (median {1e6 * product['median']:.2f}), "
            f"{ratio['median']:.2f} of fp32 ({ratio['q1']:.2f}-{ratio['q3']:.2f})"
        )


if __name__ == "__main__":
    main()
