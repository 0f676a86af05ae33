"""What short trainings say about longer ones: rungs, extrapolated curves and proxies against the end.

    python benchmarks/rungs.py [--architectures N] [--steps S] [--minutes M] [--data DIR] [--json FILE]

Random architectures of the small preset of each task, equally many of every mixer family, are trained once to
the full budget; on the way the validation loss is read at a quarter and at half of the steps (rungs), and on
a fixed slice of the validation part at 14 points. Every architecture is written to `DIR/rungs_models.csv`
(sizes, rungs, end) and `DIR/rungs_curves.csv` (the points) as soon as it is done; a run that was interrupted,
or whose minutes are over, goes on after the last one. With `--minutes 0` nothing is trained and what is
stored is analysed anew.

Kendall's tau is with the end's loss over all architectures of a task and inside each family. `extrapolated`
is the curve up to a rung continued to the end (`evaluators.curves`); `corrected` adds what the other
architectures' ends say, leave one out, per family. The decay of the learning rate is in the end and in no
extrapolation: the raw ones are expected above it. Covered: how often the end lies in the 95 % interval.
Proxies are read at initialisation; a positive tau of a size or a proxy means that more of it, or the better
value, ends with the lower loss.

`screen`: how well a search's screen would order architectures by the proxies that `auto` names, against a
sample of the space: by their standing, by the line through some of the others (`search.taught_screen`), and
by such a line through sizes alone. Mean over random choices of those others; tau is over the rest.
"""

import argparse
import csv
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy import stats

from evaluators.curves import (
    Extrapolation,
    Finished,
    corrected,
    correction,
    extrapolate,
    may_extrapolate,
    mixer_family,
)
from evaluators.curves.mixer_families import FAMILIES
from evaluators.latency import device_facts
from evaluators.proxies import probe_size, proxy_names, score
from evaluators.standing import BeyondSize, Standings
from evaluators.training import (
    BUILT_IN,
    TaskData,
    TrainingPlan,
    prepare_task,
    probe_batch,
    train,
)
from search.plan import AUTO_PROXIES
from search.taught_screen import fit_line
from search.verdicts import Finished as Trained
from space.architecture import Architecture, parse_architecture
from space.costs import costs
from space.sampling import sample
from space.search_space import load_preset

TASKS = ("python-stdlib", "mnist1d")
SEED = 0
WATCHED = 14
RUNGS = {"quarter": 0.25, "half": 0.5}
FEW = 5
"""Fewest architectures of a family whose rank correlation is stated."""
SAMPLE = 150
TAUGHT = (20, 30)
"""Trainings that a line is drawn through."""
CHOICES = 100
RESULTS = Path(__file__).parent / "results"
MODELS, CURVES = "rungs_models.csv", "rungs_curves.csv"
MODEL_COLUMNS = (
    "task", "number", "family", "steps", "params", "macs", "depth", "width", "quarter", "half", "end",
    "end_error", "cpu_s", "architecture",
)  # fmt: skip

Row = dict[str, str]
Curve = list[tuple[int, float]]


def drawn(data: TaskData, number: int) -> Architecture:
    """The random architecture of a number; its family goes round."""
    space = load_preset(data.default_preset).for_interface(data.interface())
    rng = Random(f"{SEED}/{data.name}/{number}")
    while True:
        found = sample(space, rng)
        if mixer_family(found) == FAMILIES[number % len(FAMILIES)]:
            return found.with_number_format("fp32")


def trained(data: TaskData, number: int, steps: int) -> tuple[dict[str, Any], Curve]:
    """A row of the table of models, and the points of the curve."""
    architecture, cpu = drawn(data, number), time.process_time()
    plan = TrainingPlan(steps=steps, batch_size=data.batch_size)
    losses: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        for rung, share in {**RUNGS, "end": 1.0}.items():
            result = train(
                architecture,
                data,
                plan,
                seed=SEED,
                until=round(share * steps),
                folder=Path(folder),
                watched=WATCHED,
            )
            losses[rung] = result.metrics["loss"]
    sizes = costs(architecture)
    row = {
        "task": data.name, "number": number, "family": mixer_family(architecture), "steps": steps,
        "params": sizes.params, "macs": sizes.macs, "depth": len(architecture.layers),
        "width": architecture.d_model, **{name: f"{loss:.5f}" for name, loss in losses.items()},
        "end_error": f"{result.standard_error['loss']:.5f}", "cpu_s": f"{time.process_time() - cpu:.1f}",
        "architecture": architecture.canonical_json,
    }  # fmt: skip
    return row, list(result.validation_curve)


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def collect(folder: Path, count: int, steps: int, minutes: float) -> None:
    """Trains what is missing, the tasks in turn, until the time is over."""
    began, longest = time.monotonic(), 0.0
    tasks = {name: prepare_task(BUILT_IN[name], name) for name in TASKS}
    done = {(row["task"], int(row["number"])) for row in read(folder / MODELS)}
    for number in range(count):
        for name, data in tasks.items():
            if (name, number) in done:
                continue
            if time.monotonic() - began + longest > 60 * minutes:
                return
            start = time.monotonic()
            row, curve = trained(data, number, steps)
            points = [
                {"task": name, "number": number, "step": step, "loss": f"{loss:.5f}"} for step, loss in curve
            ]
            append(folder / CURVES, ("task", "number", "step", "loss"), points)
            append(folder / MODELS, MODEL_COLUMNS, [row])
            longest = max(longest, time.monotonic() - start)
            print(name, number, row["family"], row["end"], f"{time.monotonic() - start:.0f} s", flush=True)


def correlations(values: Sequence[float], ends: Sequence[float], families: Sequence[str]) -> dict[str, Any]:
    """Kendall's tau and Spearman's rho over all, and tau inside each family."""
    found: dict[str, Any] = {
        "tau": tau(values, ends),
        "spearman": rounded(stats.spearmanr(values, ends).statistic),
    }
    for family in FAMILIES:
        own = [index for index, name in enumerate(families) if name == family]
        if len(own) >= FEW:
            found[f"tau_{family}"] = tau([values[i] for i in own], [ends[i] for i in own])
    return found


def tau(values: Sequence[float], ends: Sequence[float]) -> float:
    return rounded(stats.kendalltau(values, ends).statistic)


def rounded(value: float) -> float:
    return round(float(value), 3)


def continued(curves: Sequence[Curve], steps: int, share: float) -> list[Extrapolation] | None:
    """Every curve up to a share of the steps, continued to the end; None where the points are too few."""
    seen = [[(step, loss) for step, loss in curve if step <= share * steps] for curve in curves]
    if not all(may_extrapolate(curve, steps) for curve in seen):
        return None
    return [extrapolate(curve, steps) for curve in seen]


def judged(found: Sequence[Extrapolation], ends: Sequence[float]) -> dict[str, Any]:
    """Errors against the slice's own end."""
    errors = [abs(one.value - end) for one, end in zip(found, ends, strict=True)]
    inside = [one.low <= end <= one.high for one, end in zip(found, ends, strict=True)]
    return {
        "mean_error": rounded(statistics.fmean(errors)),
        "mean_bias": rounded(statistics.fmean(one.value - end for one, end in zip(found, ends, strict=True))),
        "covered": rounded(statistics.fmean(inside)),
        "mean_width": rounded(statistics.fmean(one.high - one.low for one in found)),
    }


def left_out(
    found: Sequence[Extrapolation], ends: Sequence[float], families: Sequence[str]
) -> list[Extrapolation]:
    """Each corrected by the ends of all others."""
    known = [Finished(*one) for one in zip(families, (e.value for e in found), ends, strict=True)]
    return [
        corrected(one, correction([*known[:index], *known[index + 1 :]], families[index]))
        for index, one in enumerate(found)
    ]


def proxy_values(data: TaskData, rows: Sequence[Row]) -> dict[str, list[float]]:
    """Every proxy of every architecture, oriented so that smaller is better; NaN where it has none."""
    inputs, targets = probe_batch(data, probe_size(data.length))
    values: dict[str, list[float]] = {name: [] for name in proxy_names()}
    for row in rows:
        found = score(parse_architecture(row["architecture"]), inputs, targets, proxy_names(), seed=SEED)
        for name, measured in found.items():
            sign = -1.0 if measured.detail.get("direction") == "max" else 1.0
            values[name].append(np.nan if measured.value is None else sign * measured.value)
    return values


def analysed(name: str, rows: Sequence[Row], points: Sequence[Row]) -> dict[str, Any]:
    """Everything about one task."""
    families, ends = [row["family"] for row in rows], [float(row["end"]) for row in rows]
    steps = int(rows[0]["steps"])
    curves = [
        [(int(p["step"]), float(p["loss"])) for p in points if p["number"] == row["number"]] for row in rows
    ]
    slice_ends = [curve[-1][1] for curve in curves]
    found: dict[str, Any] = {
        "architectures": len(rows), "steps": steps, "families": {f: families.count(f) for f in FAMILIES},
        "end": {"least": min(ends), "median": statistics.median(ends), "largest": max(ends)},
        "cpu_s": round(sum(float(row["cpu_s"]) for row in rows)), "rungs": {}, "sizes": {},
    }  # fmt: skip
    for rung, share in RUNGS.items():
        part: dict[str, Any] = {"rung": correlations([float(row[rung]) for row in rows], ends, families)}
        if extrapolated := continued(curves, steps, share):
            plain = [one.value for one in extrapolated]
            better = left_out(extrapolated, slice_ends, families)
            part["extrapolated"] = {**correlations(plain, ends, families), **judged(extrapolated, slice_ends)}
            part["corrected"] = {
                **correlations([one.value for one in better], ends, families), **judged(better, slice_ends)
            }  # fmt: skip
        found["rungs"][rung] = part
    for size in ("params", "macs", "depth", "width"):
        found["sizes"][size] = correlations([-float(row[size]) for row in rows], ends, families)
    return found


def judged_proxies(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Correlations of every proxy that has enough numbers, on those architectures."""
    families, ends = [row["family"] for row in rows], [float(row["end"]) for row in rows]
    found: dict[str, Any] = {}
    for proxy, values in proxy_values(prepare_task(BUILT_IN[name], name), rows).items():
        known = [index for index, value in enumerate(values) if np.isfinite(value)]
        if len(known) >= FEW and len({values[i] for i in known}) > 1:
            shown = correlations(
                [values[i] for i in known], [ends[i] for i in known], [families[i] for i in known]
            )
            found[proxy] = {"architectures": len(known), **shown}
    return found


def judged_screen(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Mean tau over architectures that a line has not seen, by how many it has."""
    data = prepare_task(BUILT_IN[name], name)
    inputs, targets = probe_batch(data, probe_size(data.length))
    space = load_preset(data.default_preset).for_interface(data.interface())
    sampled = [sample(space, Random(f"sample/{index}")) for index in range(SAMPLE)]
    models = [parse_architecture(row["architecture"]) for row in rows]
    scores = [score(one, inputs, targets, AUTO_PROXIES, seed=SEED) for one in (*sampled, *models)]
    beyond = BeyondSize.of(scores[:SAMPLE], [float(costs(one).params) for one in sampled])
    standings, own = Standings.of(scores[:SAMPLE]), scores[SAMPLE:]
    standing = [-standings.of_scores(one) for one in own]
    finished = [
        Trained(
            number,
            -float(row["end"]),
            float(row["params"]),
            float(row["depth"]),
            {key: value.value for key, value in one.items() if value.value is not None},
        )
        for number, (row, one) in enumerate(zip(rows, own, strict=True))
    ]
    found: dict[str, Any] = {"sample": SAMPLE, "choices": CHOICES}
    for count in TAUGHT:
        taus: dict[str, list[float]] = {"line": [], "sizes": [], "standing": []}
        for choice in range(CHOICES):
            order = Random(f"{name}/{count}/{choice}").sample(range(len(rows)), len(rows))
            seen, rest = [finished[i] for i in order[:count]], order[count:]
            ends = [-finished[i].quality for i in rest]
            orders = {
                "line": fit_line(seen, beyond).ranks([models[i] for i in rest], [own[i] for i in rest]),
                "sizes": fit_line(seen, BeyondSize({})).ranks([models[i] for i in rest], [{} for _ in rest]),
                "standing": [standing[i] for i in rest],
            }
            for key, values in orders.items():
                taus[key].append(tau(values, ends))
        found[f"{count} trainings"] = {
            key: rounded(float(np.nan_to_num(values).mean())) for key, values in taus.items()
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--architectures", type=int, default=60, help="per task")
    parser.add_argument("--steps", type=int, default=300, help="the full budget")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop training after so long")
    parser.add_argument("--data", type=Path, default=RESULTS, metavar="DIR", help="where the tables are")
    parser.add_argument("--json", type=Path, default=RESULTS / "rungs.json", metavar="FILE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.data.mkdir(parents=True, exist_ok=True)
    collect(given.data, given.architectures, given.steps, given.minutes)
    models, points = read(given.data / MODELS), read(given.data / CURVES)
    rows = {name: [row for row in models if row["task"] == name] for name in TASKS}
    found: dict[str, Any] = {
        "about": "Kendall's tau with the loss at the end of the full budget; one training each, one thread",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": device_facts(),
        "tasks": {
            name: analysed(name, own, [point for point in points if point["task"] == name])
            for name, own in rows.items()
            if own
        },
    }
    for name, task in found["tasks"].items():  # what is known is written before the slow part
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        task["screen"] = judged_screen(name, rows[name])
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        task["proxies"] = judged_proxies(name, rows[name])
    given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found["tasks"], indent=1))


if __name__ == "__main__":
    main()
