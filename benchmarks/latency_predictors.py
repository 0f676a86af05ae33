"""Latency predicted on public tables from 10, 30, 100 and 300 measured architectures.

    python benchmarks/latency_predictors.py --data DIR [--json FILE] [--splits N] [--only NAME]...

DIR holds `hat_latency`, `hwgpt`, `edgetran` and `lts` as their READMEs describe. Every table is one device
(and task or size). Samples are drawn at random; errors are those of all other rows, at most 1,000 of them.

    ours      `fit_latency` on amounts of work derived from the row, method chosen inside the samples
    raw       ridge on the raw columns (centred, scaled), log time, penalty by cross-validation
    flops     log time as a line in log multiply-accumulates
    transfer  log time as a line in that of another device of the same rows (hwgpt), the best in the samples

Spearman's rank correlation (for HAT also inside equal numbers of decoder layers, which alone rank well), mean
absolute relative error, share of rows within 10 %: mean and standard
deviation over splits, then means over the tables of a set. `--json FILE`: where they go, by default
`benchmarks/results/latency_predictors.json`.
"""

import argparse
import csv
import gzip
import json
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluators.latency import device_facts
from evaluators.predictors import fit_latency, transfer

RESULT = Path(__file__).parent / "results" / "latency_predictors.json"
SIZES = (10, 30, 100, 300)
LEAST_TEST = 5
MOST_TEST = 1000
QKV = 512
"""Width of queries, keys and values of every HAT network."""
HAT_TOKENS = {"iwslt14deen": 23}
VOCABULARY = 50254
EDGETRAN_TOKENS = 128

Row = Mapping[str, str]
Work = dict[str, float]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """One device: per row its work, its raw columns, its multiply-accumulates and its seconds."""

    source: str
    name: str
    work: Sequence[Work]
    raw: Sequence[Sequence[float]]
    macs: Sequence[float]
    seconds: Sequence[float]
    elsewhere: Mapping[str, Sequence[float]]
    """Seconds of the same rows on other devices."""
    groups: Sequence[str] = ()
    """Rows of one group are alike in what alone ranks well; none: no such column."""


def hat_tables(folder: Path) -> Iterable[Table]:
    rows = read(folder / "hat_latency" / "latency.csv.gz")
    columns = [
        "enc_dim", "enc_layers", "enc_ffn_avg", "enc_heads_avg", "dec_dim", "dec_layers", "dec_ffn_avg",
        "dec_self_heads_avg", "dec_cross_heads_avg", "dec_cross_span_avg",
    ]  # fmt: skip
    for task, device in sorted({(row["task"], row["device"]) for row in rows}):
        own = [row for row in rows if (row["task"], row["device"]) == (task, device)]
        work = [hat_work(row) for row in own]
        yield Table(
            source="hat_latency",
            name=f"{task} {device}",
            work=work,
            raw=[[float(row[column]) for column in columns] for row in own],
            macs=[sum(value for name, value in one.items() if name.endswith("macs")) for one in work],
            seconds=[1e-3 * (float(row["enc_ms"]) + float(row["dec_ms"])) for row in own],
            elsewhere={},
            groups=[row["dec_layers"] for row in own],
        )


def hat_work(row: Row) -> Work:
    """The encoder runs once over the sentence, the decoder once per token of it; both cross the vocabulary
    and their own layers."""
    n = HAT_TOKENS.get(row["task"], 30)
    value = {key: float(text) for key, text in row.items() if key.startswith(("enc_", "dec_"))}
    encoder, decoder, layers = value["enc_dim"], value["dec_dim"], value["dec_layers"]
    return {
        "encoder.calls": value["enc_layers"],
        "encoder.projection.macs": n * value["enc_layers"] * 4 * encoder * QKV,
        "encoder.feed_forward.macs": n * value["enc_layers"] * 2 * encoder * value["enc_ffn_avg"],
        "encoder.heads": value["enc_layers"] * value["enc_heads_avg"],
        "decoder.calls": n * layers,
        "decoder.projection.macs": n * layers * 6 * decoder * QKV,
        "decoder.feed_forward.macs": n * layers * 2 * decoder * value["dec_ffn_avg"],
        "decoder.cross.macs": n * layers * value["dec_cross_span_avg"] * 2 * encoder * QKV,
        "decoder.self.heads": n * layers * value["dec_self_heads_avg"],
        "decoder.cross.heads": n * layers * value["dec_cross_heads_avg"],
        "decoder.width": n * decoder,
    }


def hwgpt_tables(folder: Path) -> Iterable[Table]:
    for size in "sml":
        rows = read(folder / "hwgpt" / f"gpt_{size}.csv.gz")
        devices = sorted(key.removeprefix("lat_") for key in rows[0] if key.startswith("lat_"))
        own = [row for row in rows if all(row[f"lat_{device}"] for device in devices)]
        work = [hwgpt_work(row) for row in own]
        raw = [hwgpt_raw(row) for row in own]
        macs = [1e9 * float(row["macs_g"]) for row in own]
        seconds = {device: [1e-3 * float(row[f"lat_{device}"]) for row in own] for device in devices}
        for device in devices:
            others = {name: values for name, values in seconds.items() if name != device}
            yield Table("hwgpt", f"{size} {device}", work, raw, macs, seconds[device], others)


def hwgpt_work(row: Row) -> Work:
    width, layers = float(row["embed"]), float(row["n_layer"])
    ratios = sum(float(digit) for digit in row["mlp"])
    return {
        "calls": layers,
        "projection.macs": layers * width**2,
        "feed_forward.macs": ratios * width**2,
        "elementwise": layers * width,
        "hidden": ratios * width,
        "heads": sum(float(digit) + 1 for digit in row["heads"]),
        "vocabulary.macs": width * VOCABULARY,
        "bias": float(row["bias"]) * layers * width,
        "macs": float(row["macs_g"]),
    }


def hwgpt_raw(row: Row) -> list[float]:
    """Homogeneous columns and the digits of every layer; layers a network lacks are 0."""
    deepest = 36
    return [
        float(row["embed"]), float(row["n_layer"]), float(row["bias"]),
        *(float(row[key][i : i + 1] or 0) for key in ("heads", "mlp") for i in range(deepest)),
    ]  # fmt: skip


def edgetran_tables(folder: Path) -> Iterable[Table]:
    rows = read(folder / "edgetran" / "device_measurements.csv")
    for device in sorted({row["device"] for row in rows}):
        own = [row for row in rows if row["device"] == device]
        work = [edgetran_work(row["layers"]) for row in own]
        kinds = sorted({name for one in work for name in one})
        yield Table(
            source="edgetran",
            name=device,
            work=work,
            raw=[[one.get(kind, 0.0) for kind in kinds if not kind.endswith("macs")] for one in work],
            macs=[sum(value for name, value in one.items() if name.endswith("macs")) for one in work],
            seconds=[float(row["latency_s"]) for row in own],
            elsewhere={},
        )


def edgetran_work(text: str) -> Work:
    """Layers `h<width>;<heads>;<feed-forward sizes>`, as the README of the set writes them."""
    n, work = EDGETRAN_TOKENS, Counter()
    before = None
    for layer in text.split("|"):
        width_text, heads, sizes = layer.split(";")
        width = float(width_text.removeprefix("h"))
        work["layers"] += 1
        work["width"] += width
        if before is not None and before != width:
            work["resize.macs"] += n * before * width
        before = width
        for kind, argument, dim_text, count_text in re.findall(r"(sa|l|c)_(\w+?)(?:_(\d+))\*(\d+)", heads):
            dim, count = float(dim_text), float(count_text)
            name = f"c_{argument}" if kind == "c" else f"{kind}_{argument}"
            work[f"{name}.heads"] += count
            work[f"{name}.width"] += count * dim
            if kind == "sa":
                work["projection.macs"] += n * 3 * width * count * dim
                work["attention.macs"] += 2 * n * n * count * dim
            elif kind == "c":
                work["projection.macs"] += n * 4 * width * count * dim
                work["convolution.macs"] += n * count * dim * float(argument)
        work["projection.macs"] += n * width * width
        inputs = width
        for size in (float(part) for part in sizes.split("-")):
            work["feed_forward.macs"] += n * inputs * size
            work["feed_forward.calls"] += 1
            inputs = size
        work["feed_forward.macs"] += n * inputs * width
    return dict(work)


class Counter(dict[str, float]):
    """Amounts that begin at 0."""

    def __missing__(self, key: str) -> float:
        return 0.0


def lts_tables(folder: Path) -> Iterable[Table]:
    for path in sorted((folder / "lts").glob("pareto_*.csv")):
        own = [row for row in read(path) if row["latency"]]
        yield Table(
            source="lts",
            name=path.stem.removeprefix("pareto_"),
            work=[lts_work(row) for row in own],
            raw=[lts_raw(row) for row in own],
            macs=[float(row["params_nonembedding"]) for row in own],
            seconds=[1e-3 * float(json.loads(row["latency"])) for row in own],
            elsewhere={},
        )


def lts_work(row: Row) -> Work:
    layers, width = float(row["n_layer"]), float(row["d_model"])
    return {
        "calls": layers,
        "attention.macs": float(row["params_attn"]),
        "feed_forward.macs": float(row["params_ffn"]),
        "elementwise": layers * width,
        "hidden": sum(json.loads(row["d_inner"])),
        "heads": sum(json.loads(row["n_head"])),
        "vocabulary.macs": float(row["params_total"]) - float(row["params_nonembedding"]),
    }


def lts_raw(row: Row) -> list[float]:
    inner, heads = json.loads(row["d_inner"]), json.loads(row["n_head"])
    return [float(row["n_layer"]), float(row["d_model"]), statistics.fmean(inner), statistics.fmean(heads)]


def read(path: Path) -> list[dict[str, str]]:
    raw_bytes = path.read_bytes()
    text = (gzip.decompress(raw_bytes) if path.suffix == ".gz" else raw_bytes).decode("utf-8")
    return list(csv.DictReader(text.splitlines()))


# -- methods: table, samples, others -> seconds of the others ------------------------------------------------


def ours(table: Table, chosen: Sequence[int], others: Sequence[int]) -> tuple[Values, str]:
    predictor = fit_latency([table.work[i] for i in chosen], [table.seconds[i] for i in chosen])
    return predictor.predict([table.work[i] for i in others]), predictor.method


def raw(table: Table, chosen: Sequence[int], others: Sequence[int]) -> tuple[Values, str]:
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-3, 3, 13)))
    rows = np.array(table.raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # singular matrices at small penalties: another penalty is chosen
        model.fit(rows[list(chosen)], np.log([table.seconds[i] for i in chosen]))
        return np.exp(model.predict(rows[list(others)])), ""


def flops(table: Table, chosen: Sequence[int], others: Sequence[int]) -> tuple[Values, str]:
    logs = np.log(np.array(table.macs))
    slope, constant = np.polyfit(logs[list(chosen)], np.log([table.seconds[i] for i in chosen]), 1)
    return np.exp(slope * logs[list(others)] + constant), ""


def from_another(table: Table, chosen: Sequence[int], others: Sequence[int]) -> tuple[Values, str]:
    old = {name: [values[i] for i in chosen] for name, values in table.elsewhere.items()}
    fitted = transfer([table.seconds[i] for i in chosen], old, [table.work[i] for i in chosen])
    values = [table.elsewhere[fitted.source][i] for i in others]
    return fitted.predict(values, [table.work[i] for i in others]), fitted.source


Method = Callable[[Table, Sequence[int], Sequence[int]], tuple[Values, str]]
METHODS: Mapping[str, Method] = {"ours": ours, "raw": raw, "flops": flops, "transfer": from_another}


def judged(table: Table, splits: int) -> dict[str, Any]:
    """Per number of samples and method: the three figures with their deviation, and what was chosen."""
    found: dict[str, Any] = {"rows": len(table.seconds)}
    for size in SIZES:
        if size + LEAST_TEST > len(table.seconds):
            continue
        for name, method in METHODS.items():
            if name == "transfer" and not table.elsewhere:
                continue
            figures, chosen_methods = zip(
                *(one_split(table, method, size, split) for split in range(splits)), strict=True
            )
            found.setdefault(str(size), {})[name] = {
                **{
                    key: {
                        "mean": statistics.fmean(one[key] for one in figures),
                        "sd": statistics.stdev(one[key] for one in figures) if splits > 1 else 0.0,
                    }
                    for key in figures[0]
                },
                "chosen": {text: chosen_methods.count(text) for text in sorted(set(chosen_methods)) if text},
            }
    return found


def one_split(table: Table, method: Method, size: int, split: int) -> tuple[dict[str, float], str]:
    order = np.random.default_rng([split, size]).permutation(len(table.seconds)).tolist()
    chosen, others = order[:size], order[size : size + MOST_TEST]
    predicted, text = method(table, chosen, others)
    measured = np.array([table.seconds[i] for i in others])
    relative = np.abs(predicted / measured - 1)
    figures = {
        "spearman": float(spearmanr(predicted, measured).statistic),
        "mean_error": float(relative.mean()),
        "within_10": float((relative <= 0.1).mean()),
    }
    if table.groups:
        figures["spearman_inside_groups"] = inside(predicted, measured, [table.groups[i] for i in others])
    return figures, text


def inside(predicted: Values, measured: Values, groups: Sequence[str]) -> float:
    """Mean rank correlation inside the groups, by their sizes; what a method cannot tell apart counts 0."""
    found = []
    for group in sorted(set(groups)):
        rows = np.array(groups) == group
        tied = np.ptp(predicted[rows]) == 0 or np.ptp(measured[rows]) == 0
        value = 0.0 if tied else float(spearmanr(predicted[rows], measured[rows]).statistic)
        found += [value] * int(rows.sum())
    return statistics.fmean(found)


def summary(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the tables of every set."""
    found: dict[str, Any] = {}
    for source in sorted({name.partition("/")[0] for name in tables}):
        own = [table for name, table in tables.items() if name.startswith(f"{source}/")]
        for size in map(str, SIZES):
            for method in METHODS:
                there = [table[size][method] for table in own if method in table.get(size, {})]
                if there:
                    found.setdefault(source, {}).setdefault(size, {})[method] = {
                        "tables": len(there),
                        **{
                            key: statistics.fmean(one[key]["mean"] for one in there)
                            for key in there[0]
                            if key != "chosen"
                        },
                    }
    return found


SOURCES: Mapping[str, Callable[[Path], Iterable[Table]]] = {
    "hat_latency": hat_tables,
    "hwgpt": hwgpt_tables,
    "edgetran": edgetran_tables,
    "lts": lts_tables,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public tables")
    parser.add_argument("--json", type=Path, default=RESULT, help="where the result goes")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument(
        "--only", action="append", choices=sorted(SOURCES), help="renews these, may be repeated"
    )
    arguments = parser.parse_args()
    began = time.process_time()
    tables = kept(arguments.json, arguments.only) | {
        f"{table.source}/{table.name}": judged(table, arguments.splits)
        for source in arguments.only or SOURCES
        for table in SOURCES[source](arguments.data)
    }
    result = {
        "machine": device_facts(),
        "date": time.strftime("%Y-%m-%d"),
        "splits": arguments.splits,
        "cpu_s": round(time.process_time() - began, 1),
        "summary": summary(tables),
        "tables": tables,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(rounded(result), indent=1) + "\n", encoding="utf-8")
    for source, sizes in result["summary"].items():
        for size, methods in sizes.items():
            for method, one in methods.items():
                print(
                    f"{source:12} {size:>4} {method:9} {one['tables']:3} tables  "
                    f"rho {one['spearman']:.3f}  error {one['mean_error']:6.1%}  "
                    f"within 10 % {one['within_10']:.1%}"
                )


def kept(path: Path, only: Sequence[str] | None) -> dict[str, Any]:
    """Tables of an earlier run that this one leaves out."""
    if not only or not path.exists():
        return {}
    tables: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["tables"]
    return {name: table for name, table in tables.items() if name.partition("/")[0] not in only}


def rounded(value: Any) -> Any:
    """Four digits behind the point are more than the spread allows."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
