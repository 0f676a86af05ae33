"""How well training-free proxies order published, trained networks, and what their passes cost.

    python -m benchmarks.proxies --costs --data ../shared/benchmarks --json benchmarks/results/proxies.json

Quality. For every network of `flexibert`, `vit_autoprox` and `lts` (or `--rows` of them, drawn with a seed)
the table's architecture is built untrained and all proxies of groups A to E are read from shared passes: 16
sequences of 64 random ids (or 64 random patches), the random-projection loss, one initialisation. Per proxy:
Kendall's tau and Spearman's rho with the trained quality; partial Spearman given parameters and depth (size),
and given width, too (shape); tau inside strata of equal depth and a tenth of the parameters, and inside cells
of equal depth and width. Beside them parameter count, depth, width and the columns the table's authors
published. Nothing is fitted and no sign is turned: larger is better for every proxy as published. On
`flexibert` every layer is softmax attention, as that table's README explains.

Cost. Seconds per architecture for the passes of each group and for everything, against running each proxy
alone, on a LLaMA-like decoder of 4 layers, d=256, n=128, batch 16, one thread; wall and CPU seconds.
"""

import argparse
import csv
import dataclasses
import datetime as dt
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.published_networks import Network, PublishedNet, autoformer, flexibert, lts, pit
from evaluators.latency.target import device_facts
from evaluators.passes import collect
from evaluators.proxies import PROXIES, Proxy, probe_size, score
from evaluators.rank_statistics import kendall, partial_spearman, precision_at_top, spearman, tau_in_strata
from evaluators.ranking import mean_ranks
from space.architecture import Architecture, parse_architecture
from space.errors import UnsupportedError

GROUPS = "ABCDE"
LEFT_OUT = ("quant_noise",)
"""Networks of the tables have no number formats."""
EXAMPLES = 64
"""Gradients read 16; hidden layers wider than 1,024 have fewer than the four rows per unit w_pca wants."""
REPEATS = 5
Row = Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """Where a table's rows are, how a row becomes a network, and what it was worth after training."""

    file: str
    network: Callable[[Row], Network]
    quality: Callable[[Row], float | None]
    """Larger is better."""
    params: Callable[[Row, int], float]
    """The table's own count where it has one, else the built network's."""
    published: tuple[str, ...] = ()


def column(name: str, *, sign: float = 1.0) -> Callable[[Row], float | None]:
    return lambda row: sign * float(row[name]) if row[name] else None


FLEXIBERT_COLUMNS = (
    "pub_head_confidence", "pub_head_confidence_norm", "pub_softmax_confidence", "pub_act_distance",
    "pub_jacobian_cov", "pub_jacobian_cos", "pub_syn_saliency", "pub_syn_diversity", "pub_head_importance",
    "pub_params", "train_seconds",
)  # fmt: skip
TABLES: Mapping[str, Table] = {
    "flexibert": Table(
        "flexibert/architectures.csv", flexibert, column("glue"), lambda row, _: float(row["params_trained"]),
        FLEXIBERT_COLUMNS,
    ),
    "autoformer": Table("vit_autoprox/autoformer.csv", autoformer, column("c100_base_acc"), lambda _, n: n),
    "pit": Table("vit_autoprox/pit.csv", pit, column("c100_base_acc"), lambda _, n: n),
    "lts_gpt2_lm1b": Table(
        "lts/random_GPT2_lm1b.csv", lts, column("valid_ppl", sign=-1.0),
        lambda row, _: float(row["params_nonembedding"]), ("params_total", "params_attn", "params_ffn"),
    ),
    "lts_gpt2_wt103": Table(
        "lts/random_GPT2_wt103.csv", lts, column("valid_ppl", sign=-1.0),
        lambda row, _: float(row["params_nonembedding"]), ("params_total", "params_attn", "params_ffn"),
    ),
}  # fmt: skip


def shared_proxies(without: Sequence[str]) -> list[Proxy]:
    """Those of groups A to E."""
    left_out = {*LEFT_OUT, *without}
    return [one for one in PROXIES if one.groups <= set(GROUPS) and one.id not in left_out]


def scored(network: Network, params: Callable[[int], float], without: Sequence[str] = ()) -> dict[str, float]:
    """Every proxy's number and those beside it, of one untrained network."""
    rng = np.random.default_rng(0)
    shape = (EXAMPLES, network.tokens)
    inputs = (
        rng.standard_normal((*shape, 48)).astype(np.float32)
        if network.image
        else rng.integers(0, 1000, shape)
    )
    model = PublishedNet(network, seed=0)
    members = [one for one in shared_proxies(without) if one.needs]
    needs = frozenset(need for one in members for need in one.needs)
    targets = np.zeros(shape if network.causal else shape[0], dtype=np.int64)
    passes = collect(model, inputs, targets, points=model.points(), needs=needs, loss="projection")
    size = params(sum(parameter.numel() for parameter in model.parameters()))
    passes = dataclasses.replace(passes, num_params=round(size))
    found = {
        "params": size,
        "depth": float(network.depth),
        "width": statistics.fmean(layer.width for layer in network.layers),
    }
    for member in members:
        try:
            own = member.score(passes)
        except UnsupportedError:
            continue
        found[member.id] = own.value
        found |= {f"{member.id}.{name}": value for name, value in own.detail.items()}
    return found


def rows_of(table: Table, data: Path, count: int | None) -> list[Row]:
    """Those with a quality, a seeded draw of `count`."""
    with (data / table.file).open(encoding="utf-8", newline="") as file:
        rows: list[Row] = [row for row in csv.DictReader(file) if table.quality(row) is not None]
    return rows if count is None or count >= len(rows) else random.Random(0).sample(rows, count)


def evaluated(name: str, data: Path, count: int | None, without: Sequence[str] = ()) -> dict[str, Any]:
    table, start = TABLES[name], time.perf_counter()
    rows = rows_of(table, data, count)
    columns: dict[str, list[float | None]] = {}
    quality = [value for row in rows if (value := table.quality(row)) is not None]
    for index, row in enumerate(rows):
        found = scored(table.network(row), lambda n, row=row: table.params(row, n), without)  # type: ignore[misc]
        found |= {f"published: {key}": float(row[key]) for key in table.published}
        for key in found:
            columns.setdefault(key, [None] * len(rows))
        for key in columns:
            columns[key][index] = found.get(key)
        if index % 20 == 19:
            print(f"{name}: {index + 1} of {len(rows)}, {time.perf_counter() - start:.0f} s", flush=True)
    pairs = zip(columns["depth"], columns["width"], strict=True)
    columns["depth, then width"] = [1000 * (depth or 0.0) + (width or 0.0) for depth, width in pairs]
    add_ranks(columns)
    varying = {key: values for key, values in columns.items() if len(set(values)) > 1}
    return {
        "rows": len(rows),
        "of": len(rows_of(table, data, None)),
        "published_on_all_rows": published_on_all(table, data),
        "seconds_per_architecture": (time.perf_counter() - start) / len(rows),
        "proxies": {key: quality_of(values, columns, quality) for key, values in sorted(varying.items())},
    }


def published_on_all(table: Table, data: Path) -> dict[str, dict[str, float]]:
    """Tau and rho of the table's own columns, and of its shape, over every row: nothing is built for them.

    On `flexibert` these are the reference figures of that table's README, to the third decimal.
    """
    rows = rows_of(table, data, None)
    quality = [table.quality(row) or 0.0 for row in rows]
    networks = [table.network(row) for row in rows]
    columns = {key: [float(row[key]) for row in rows] for key in table.published}
    columns["depth, then width"] = [1000.0 * one.depth + one.layers[0].width for one in networks]
    if table.published:
        columns["params"] = [table.params(row, 0) for row in rows]
    return {
        key: {"tau": round(kendall(x, quality), 4), "rho": round(spearman(x, quality), 4)}
        for key, x in columns.items()
    }


def add_ranks(columns: dict[str, list[float | None]]) -> None:
    """What combines ranks over the whole population: DSS's two halves, and AZ-NAS (logarithms of ranks)."""
    if "dss.diversity" in columns:
        halves = [columns["dss.diversity"], columns["dss.saliency"]]
        columns["dss_rank"] = [-rank for rank in mean_ranks(halves)]
    parts = [columns[key] for key in ("az_expressivity", "az_trainability", "params") if key in columns]
    ranks = [mean_ranks([part]) for part in parts]
    count = len(columns["params"])
    columns["az_nas (params for MACs)"] = [
        sum(math.log(1 - (rank[i] - 1) / count) for rank in ranks) for i in range(count)
    ]


def quality_of(
    values: Sequence[float | None], columns: Mapping[str, Sequence[float | None]], quality: Sequence[float]
) -> dict[str, Any]:
    """Statistics over the rows that have the number; a number that is not finite is counted, not ranked."""
    kept = [i for i, value in enumerate(values) if value is not None and math.isfinite(value)]
    failed = len(values) - len(kept)
    if len(kept) < 10:
        return {"rows": len(kept), "failed": failed}
    x, y = [values[i] or 0.0 for i in kept], [quality[i] for i in kept]
    sizes, depths, widths = ([columns[key][i] or 0.0 for i in kept] for key in ("params", "depth", "width"))
    cells = list(zip(depths, widths, strict=True))
    numbers = {
        "tau": kendall(x, y),
        "rho": spearman(x, y),
        "rho_with_params": spearman(x, sizes),
        "partial_given_size": partial_spearman(x, y, [sizes, depths]),
        "partial_given_shape": partial_spearman(x, y, [sizes, depths, widths]),
        "tau_in_strata": tau_in_strata(x, y, strata_of(sizes, depths))[0],
        "tau_at_equal_depth_and_width": tau_in_strata(x, y, cells)[0],
        "top_tenth": precision_at_top(x, y),
    }
    clean = {key: round(value, 4) if math.isfinite(value) else None for key, value in numbers.items()}
    return {"rows": len(kept), "failed": failed, **clean}


def strata_of(sizes: Sequence[float], depths: Sequence[float]) -> list[tuple[int, float]]:
    """Tenth of the parameters, and depth."""
    edges = np.quantile(sizes, np.linspace(0.1, 0.9, 9))
    return [(int(np.searchsorted(edges, s)), d) for s, d in zip(sizes, depths, strict=True)]


def decoder() -> Architecture:
    """LLaMA-like, 4 layers of width 256, 128 tokens."""
    layer = {
        "mixer": {"kind": "softmax", "num_heads": 8, "num_kv_heads": 8},
        "feed_forward": {"kind": "glu", "activation": "silu", "d_ff": 683},
        "norm": {"kind": "rmsnorm"},
    }
    return parse_architecture(
        {
            "model": "decoder",
            "interface": {"input": "bytes", "context_length": 128, "outputs": 256},
            "d_model": 256,
            "position": {"kind": "rope"},
            "layers": [layer] * 4,
            "final_norm": {"kind": "rmsnorm"},
            "head": {"kind": "language"},
        }
    )


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def spread(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = (np.array(column) for column in zip(*pairs, strict=True))
    low, median, high = np.quantile(wall, [0.1, 0.5, 0.9])
    return {
        "wall_p10_s": round(float(low), 4),
        "wall_median_s": round(float(median), 4),
        "wall_p90_s": round(float(high), 4),
        "cpu_median_s": round(float(np.median(cpu)), 4),
    }


def costs() -> dict[str, Any]:
    """Groups and everything, interleaved; each proxy alone."""
    rng, own = np.random.default_rng(0), decoder()
    x, y = (rng.integers(0, 256, (probe_size(128), 128)) for _ in range(2))
    members = [one for one in PROXIES if one.groups <= set(GROUPS)]
    sets = {g: [one.id for one in members if one.groups == {g}] for g in GROUPS}
    sets["A-E"] = [one.id for one in members]

    def run(names: Sequence[str]) -> Callable[[], object]:
        return lambda: score(own, x, y, names, seed=0, num_seeds=1)

    run(sets["A-E"])()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in [*sets, "one by one"]}
    for _ in range(REPEATS):
        for name, names in sets.items():
            times[name].append(timed(run(names)))
        alone = [timed(run([name])) for name in sets["A-E"]]
        times["one by one"].append((sum(wall for wall, _ in alone), sum(cpu for _, cpu in alone)))
    found = {name: spread(pairs) for name, pairs in times.items()}
    shared, separate = found["A-E"], found["one by one"]
    return {
        "network": "decoder, 4 layers, d=256, n=128, glu 683, batch 16",
        "proxies": len(members),
        "repeats": REPEATS,
        "seconds": found,
        "times_faster": round(separate["cpu_median_s"] / shared["cpu_median_s"], 2),
        "target": {"A-E in 2 s": shared["cpu_median_s"] <= 2.0},
    }


def machine() -> dict[str, Any]:
    load = Path("/proc/loadavg").read_text(encoding="ascii").split()[0]
    return {**device_facts(), "threads": 1, "load_1m": load, "date": dt.datetime.now(dt.UTC).isoformat()}


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    for name, table in result["tables"].items():
        yield f"{name}: {table['rows']} of {table['of']} networks"
        ranked = sorted(table["proxies"].items(), key=lambda pair: -abs(pair[1].get("tau") or 0.0))
        for key, own in ranked[:14]:
            numbers = (
                own.get(k) for k in ("tau", "rho", "partial_given_shape", "tau_at_equal_depth_and_width")
            )
            yield f"  {key:32}" + "".join("      -" if v is None else f" {v:+.3f}" for v in numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/benchmarks"), help="folder of the published tables"
    )
    parser.add_argument("--json", type=Path, help="where the result goes; a result there is completed")
    parser.add_argument("--tables", nargs="*", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--rows", type=int, help="networks per table, a seeded draw; all where left out")
    parser.add_argument("--without", nargs="*", default=[], help="proxies to leave out of the tables")
    parser.add_argument("--costs", action="store_true", help="measure the passes, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    old = options.json is not None and options.json.exists()
    if not options.data.is_dir():
        print(f"{options.data} is not there: only the passes are measured")
        options.tables, options.costs = [], True
    result: dict[str, Any] = json.loads(options.json.read_text()) if old else {"tables": {}}
    if options.costs:
        result["costs"] = {**costs(), "machine": machine()}
    for name in options.tables:
        found = evaluated(name, options.data, options.rows, options.without)
        result["tables"][name] = {**found, "without": [*LEFT_OUT, *options.without], "machine": machine()}
        if options.json is not None:
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(lines(result)))


if __name__ == "__main__":
    main()
