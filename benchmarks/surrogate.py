"""How well the search's model of quality orders trained networks that it has not seen.

    python -m benchmarks.surrogate --data ../shared/benchmarks [--splits N] [--json FILE]

Rows of `flexibert` (networks with a GLUE mean) become architectures of the preset of that name; the stack of
`search.surrogates`, as a search fits it, gets so many of them with their labels and orders the rest. Beside
it: ridge regression on plain genes, parameter count, and depth then width, which is a score of four levels
(and these with parameters to break their ties).
Kendall's tau with GLUE over all rows that are left, and inside cells of equal depth and width (weighted by
pairs); mean and standard deviation over random splits, the same for all. `by_size`: share of the splits in
which the stack falls back to parameter count. `covered`: share of the rest inside the 90 % intervals.
"""

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.replay import flexibert_genotype, problem_space, read_table
from evaluators.latency import device_facts
from evaluators.rank_statistics import Numbers, kendall, tau_in_strata
from search.surrogates import Encoder, Rows, fit_surrogate
from search.surrogates.ridge import fit_ridge

TABLE = "flexibert/architectures.csv"
SPACE = {"preset": "flexibert", "domains": {"number_format": ["fp32"]}, "context_length": 128}
LABELS = (20, 50, 100, 200)
TARGET = {"labels": 50, "tau": 0.74}

Cells = Sequence[tuple[str, str]]


def taus(predicted: Numbers, quality: Numbers, cells: Cells) -> tuple[float, float]:
    """Over all, and inside cells; 0 where nothing varies."""
    overall, inside = kendall(predicted, quality), tau_in_strata(predicted, quality, cells)[0]
    return (overall if math.isfinite(overall) else 0.0), (inside if math.isfinite(inside) else 0.0)


def one_split(
    rows: Rows, quality: np.ndarray, beside: Mapping[str, np.ndarray], cells: Cells, count: int, seed: int
) -> dict[str, Any]:
    """Tau over all and inside cells by model, and facts of the stack."""
    order = random.Random(f"{count}/{seed}").sample(range(len(quality)), len(quality))
    seen, rest = order[:count], order[count:]
    own = Rows(rows.encoder, tuple(rows.architectures[i] for i in seen))
    others = Rows(rows.encoder, tuple(rows.architectures[i] for i in rest))
    began = time.process_time()
    stack = fit_surrogate(own, quality[seen])
    seconds = time.process_time() - began
    low, high = stack.interval(others)
    predicted = {
        "stack": stack.predict(others)[0],
        "ridge on genes": fit_ridge(own.genes, quality[seen]).predict(others.genes)[0],
        **{name: column[rest] for name, column in beside.items()},
    }
    own_cells = [cells[i] for i in rest]
    return {
        "taus": {name: taus(values, quality[rest], own_cells) for name, values in predicted.items()},
        "covered": float(np.mean((low <= quality[rest]) & (quality[rest] <= high))),
        "by_size": not stack.evidence.beats_size,
        "cpu_s": seconds,
    }


def told(splits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in splits[0]["taus"]:
        overall, inside = zip(*(split["taus"][name] for split in splits), strict=True)
        found[name] = {"tau": spread(overall), "tau_at_equal_depth_and_width": spread(inside)}
    return {
        "models": found,
        "covered": spread([split["covered"] for split in splits]),
        "by_size": statistics.fmean(split["by_size"] for split in splits),
        "cpu_s": round(statistics.median(split["cpu_s"] for split in splits), 3),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": round(statistics.fmean(values), 4), "deviation": round(statistics.stdev(values), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/benchmarks"), help="published tables")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--json", type=Path, help="where the result goes")
    given = parser.parse_args()
    table = read_table(given.data / TABLE)
    space = problem_space(SPACE)
    rows = Encoder(space).rows([space.decode(flexibert_genotype(row)) for row in table])
    quality = np.array([float(row["glue"]) for row in table])
    cells = [(row["n_layers"], row["hidden"]) for row in table]
    beside = {
        "parameters": np.array([float(row["params_trained"]) for row in table]),
        "depth, then width": np.array([1e3 * float(depth) + float(width) for depth, width in cells]),
        "depth, width, parameters": np.array(
            [
                1e6 * float(depth) + 1e3 * float(width) + float(row["params_trained"]) / 1e5
                for (depth, width), row in zip(cells, table, strict=True)
            ]
        ),
    }
    labels = {
        str(count): told(
            [one_split(rows, quality, beside, cells, count, seed) for seed in range(given.splits)]
        )
        for count in LABELS
    }
    result = {
        "about": "order of unseen networks of flexibert by GLUE; mean and deviation over random splits",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": device_facts(),
        "rows": len(table),
        "splits": given.splits,
        "target": TARGET,
        "labels": labels,
    }
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for count, found in labels.items():
        for name, own in found["models"].items():
            both = (own["tau"], own["tau_at_equal_depth_and_width"])
            words = ", ".join(f"{one['mean']:+.3f} ({one['deviation']:.3f})" for one in both)
            print(f"{count:>4} labels {name:>18}: tau {words} in cells")
        print(
            f"     covered {found['covered']['mean']:.2f}, by size {found['by_size']:.1f}, {found['cpu_s']} s"
        )


if __name__ == "__main__":
    main()
