"""Writes the problem files of the searcher benchmark from the published tables.

    python -m benchmarks.fit_problems --data DIR

Ridge with the penalty of least leave-one-out error on the logarithm of every column; the error stated is that
of ten-fold cross-validation. Ideal and worst are those of the table's rows.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.replay import (
    _HEADS,
    FEATURES,
    PROBLEMS,
    flexibert_values,
    homogeneous_grid,
    hwgpt_row,
    lts_row,
    problem_space,
    read_table,
)
from search.surrogates.ridge import fit_ridge

HWGPT = {
    "cpu": ("latency_s", "lat_cpu_alldlc", "ms, CPU host alldlc, batch of 1024 tokens"),
    "gpu": ("latency_s", "lat_rtx2080", "ms, RTX 2080, kernel time"),
    "memory": ("memory_bytes", "mem_a100_mb", "MB, A100, peak"),
}
WIDTHS = {"s": (768, 384, 192), "m": (1024, 512, 256), "l": (1280, 640, 320)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with hwgpt, flexibert and lts")
    data = parser.parse_args().data
    for size in "sml":
        for name, (key, column, unit) in HWGPT.items():
            _write(f"hwgpt-{size}-{name}", _hwgpt(data, size, key, column, unit))
    for device, table in (("corei7", "pareto_GPT2_lm1b_corei7.csv"), ("arm", "pareto_GPT2_lm1b_arm.csv")):
        _write(f"lts-{device}", _lts(data, device, table))
    for name, key, column in (("params", "params", "params_trained"), ("time", "latency_s", "train_seconds")):
        _write(f"flexibert-{name}", _flexibert(data, key, column))


def _write(name: str, spec: Mapping[str, Any]) -> None:
    (PROBLEMS / f"{name}.json").write_text(json.dumps(spec, indent=1) + "\n", encoding="utf-8")
    print(name, [one.get("error") for one in spec["objectives"]], spec.get("homogeneous", {}))


def _hwgpt(data: Path, size: str, key: str, column: str, unit: str) -> dict[str, Any]:
    rows = read_table(data / "hwgpt" / f"gpt_{size}.csv.gz")
    rows = [row for row in rows if row["bias"] == "0"]
    x = [
        hwgpt_row(sorted(_HEADS), int(row["embed"]), _digits(row["heads"]), _digits(row["mlp"]))
        for row in rows
    ]
    quality = _fitted("loss", "ppl", "perplexity", rows, x, log=False)
    return _described(
        f"hwgpt-{size}", {"number_format": ["fp32"]}, 1024, "hwgpt", x,
        [quality, _fitted(key, column, unit, rows, x, log=True)],
        "repository automl/HW-GPT-Bench (Apache-2.0), rows without biases",
    )  # fmt: skip


def _digits(text: str) -> list[float]:
    return [float(digit) for digit in text]


def _lts(data: Path, device: str, table: str) -> dict[str, Any]:
    trained, timed = (read_table(data / "lts" / name) for name in ("random_GPT2_lm1b.csv", table))
    x, there = [_lts_features(row) for row in trained], [_lts_features(row) for row in timed]
    domains = {
        "number_format": ["fp32"], "d_model": [256, 128, 192, 320, 384, 512], "ff_ratio": [4, 2, 3, 6, 8],
    }  # fmt: skip
    return _described(
        "lts-gpt2", domains, 128, "lts", x,
        [
            _fitted("loss", "valid_ppl", "perplexity, LM1B", trained, x, log=False),
            _fitted("latency_s", "latency", f"ms, {device}", timed, there, log=True),
        ],
        "repository microsoft/archai (MIT), branch neurips-lts; latency of 38 to 45 published models",
    )  # fmt: skip


def _lts_features(row: Mapping[str, str]) -> list[float]:
    return lts_row(int(row["n_layer"]), int(row["d_model"]), json.loads(row["d_inner"]))


def _flexibert(data: Path, key: str, column: str) -> dict[str, Any]:
    table = "flexibert/architectures.csv"
    objectives: list[dict[str, Any]] = [
        {"key": "error", "column": "100 - mean of mnli, qnli, qqp, sst", "log": False},
        {"key": key, "column": column, "log": True},
    ]
    values = [flexibert_values(row, {"objectives": objectives}) for row in read_table(data / table)]
    for objective, own in zip(objectives, zip(*values, strict=True), strict=True):
        objective |= {"ideal": min(own), "worst": max(own)}
    return {
        "source": "repository aaronserianni/training-free-nas (CC BY 4.0)",
        "preset": "flexibert", "domains": {"number_format": ["fp32"]}, "context_length": 128, "table": table,
        "objectives": objectives,
    }  # fmt: skip


def _fitted(
    key: str,
    column: str,
    unit: str,
    rows: Sequence[Mapping[str, str]],
    x: Sequence[Sequence[float]],
    *,
    log: bool,
) -> dict[str, Any]:
    """The objective with the coefficients that give the logarithm of its column."""
    there = [index for index, row in enumerate(rows) if row[column]]
    values = np.array([float(rows[index][column]) for index in there])
    table, target = np.array(x)[there], np.log(values)
    line = fit_ridge(table, target)
    weights = line.weights / line.scale
    return {
        "key": key, "column": column, "unit": unit, "log": log,
        "ideal": float(values.min()), "worst": float(values.max()),
        "intercept": line.offset - float(line.centre @ weights), "coefficients": weights.tolist(),
        "rows": len(there), "error": _left_out(table, target),
    }  # fmt: skip


def _left_out(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    folds = np.random.default_rng(0).permutation(len(y)) % 10
    found = np.empty(len(y))
    for fold in range(10):
        found[folds == fold] = fit_ridge(x[folds != fold], y[folds != fold]).predict(x[folds == fold])[0]
    residual = y - found
    return {
        "mean_relative": round(float(np.mean(np.abs(np.expm1(residual)))), 5),
        "r2_of_logarithm": round(1 - float(residual.var() / y.var()), 5),
    }


def _described(
    preset: str, domains: Mapping[str, Any], context_length: int, features: str,
    x: Sequence[Sequence[float]], objectives: Sequence[Mapping[str, Any]], source: str,
) -> dict[str, Any]:  # fmt: skip
    """With the share of homogeneous designs that leave the range of some feature of the table."""
    spec: dict[str, Any] = {
        "source": source, "preset": preset, "domains": dict(domains), "context_length": context_length,
        "features": features, "objectives": list(objectives),
    }  # fmt: skip
    grid = homogeneous_grid(problem_space(spec))
    there = np.array([FEATURES[features](architecture) for architecture in grid])
    low, high = np.array(x).min(axis=0), np.array(x).max(axis=0)
    outside = ((there < low - 1e-9) | (there > high + 1e-9)).any(axis=1)
    spec["homogeneous"] = {"designs": len(grid), "extrapolated": int(outside.sum())}
    return spec


if __name__ == "__main__":
    main()
