"""What successive halving saves: the front found per second of training, replayed on recorded curves.

    python -m benchmarks.multifidelity [--data DIR] [--orders N] [--workers N] [--json FILE]

`benchmarks.rungs` trained architectures to the full budget and kept the losses at a quarter and at half of
the steps (`rungs_models.csv`). Here they arrive in random orders, and each policy decides what is trained on:

    halving   `search.multifidelity`, as a job runs it: promotion by non-dominated rank
    full      every architecture to the end, in the order of arrival
    random    as many promotions as halving, of trials drawn at random

With these rungs, halving cannot spend less than 0.25 + 0.25 / r + 0.5 / r^2 of the time of full trainings on
as many architectures, r the reduction: 0.5, 0.39 and 0.34 for 2, 3 and 4. With a rung before them, at 0.14
(the losses of `rungs_curves.csv` at that step): 0.33, 0.22 and 0.19.

A piece of training costs its share of the architecture's processor time. Objectives: the loss, and the
multiply-accumulates in closed form (in logarithms); a table has no latencies of the machine that replays it.
The hypervolume counts trainings that reached the end only. Ideal and reference point come from all ends of
the task, so 1 is the front of everything. Told: the hypervolume after shares of the time that all full
trainings take, and the time until 95 % and 99 % of the whole is reached, medians and quartiles over the
orders; and the ratio of halving's time to that of full trainings in the same order. Halving never trains
what it does not promote, so it may end below the whole; null where a quarter of the orders never got there.
"""

import argparse
import csv
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf, log
from pathlib import Path
from random import Random
from typing import Any

from evaluators.latency import device_facts
from search.indicators import hypervolume
from search.multifidelity import Promotion, RungResult, next_promotion

RESULTS = Path(__file__).parent / "results"
RUNGS = ("quarter", "half", "end")
SHARES = (0.25, 0.5, 1.0)
EARLY_STEP = 41
"""Of the rung before them."""
REDUCTIONS = (2, 3, 4)
GOALS = (0.95, 0.99)
POINTS = (0.1, 0.2, 0.33, 0.5, 0.75, 1.0)
REFERENCE = (1.1, 1.1)
"""In units of the range between the best and the worst end."""

Vector = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Losses at the rungs, the objective that does not change, and seconds of the whole training."""

    losses: tuple[float, ...]
    log_macs: float
    seconds: float
    shares: tuple[float, ...] = SHARES
    """Of the training, at the end of each rung."""

    def vector(self, rung: int) -> tuple[float, float]:
        return self.losses[rung - 1], self.log_macs

    def cost(self, rung: int) -> float:
        """Seconds from the rung before to this one."""
        return self.seconds * (self.shares[rung - 1] - (self.shares[rung - 2] if rung > 1 else 0.0))


@dataclass(slots=True)
class Replay:
    """One order of arrival under one policy."""

    curves: Sequence[Curve]
    reduction: int
    rng: Random
    results: list[RungResult] = field(default_factory=list)
    waiting: set[int] = field(default_factory=set)
    reached: dict[int, int] = field(default_factory=dict)
    """Trial -> the rung it has reached or is trained to."""

    @property
    def num_rungs(self) -> int:
        return len(self.curves[0].shares)

    def finished(self, number: int) -> None:
        rung = self.reached[number]
        self.results.append(RungResult(number, rung, self.curves[number].vector(rung)))
        if rung < self.num_rungs:
            self.waiting.add(number)

    def start(self, found: Promotion | None) -> tuple[int, float] | None:
        """The trial that now runs and what that takes; None where nothing is left."""
        if found is None:
            if len(self.reached) == len(self.curves):
                return None
            found = Promotion(len(self.reached), 1)
        self.waiting.discard(found.number)
        self.reached[found.number] = found.rung
        return found.number, self.curves[found.number].cost(found.rung)


Policy = Callable[[Replay], Promotion | None]
"""What to train further; None: a new trial."""


def halving(replay: Replay) -> Promotion | None:
    return next_promotion(
        replay.results, replay.waiting, num_rungs=replay.num_rungs, reduction=replay.reduction
    )


def full(replay: Replay) -> Promotion | None:
    return next((Promotion(n, replay.reached[n] + 1) for n in sorted(replay.waiting)), None)


def at_random(replay: Replay) -> Promotion | None:
    """At each rung the share that halving promotes, drawn blindly."""
    for rung in range(replay.num_rungs - 1, 0, -1):
        here = sorted(result.number for result in replay.results if result.rung == rung)
        left = [number for number in here if number in replay.waiting and replay.reached[number] == rung]
        if left and len(here) - len(left) < max(1, len(here) // replay.reduction):
            return Promotion(replay.rng.choice(left), rung + 1)
    return None


POLICIES: dict[str, Policy] = {"halving": halving, "full": full, "random": at_random}


def replayed(
    curves: Sequence[Curve], policy: Policy, reduction: int, workers: int, seed: int
) -> list[tuple[float, Vector]]:
    """Seconds of training spent by all workers -> what reached the end then, in this order."""
    replay, clock = Replay(curves, reduction, Random(seed)), 0.0
    running, ends = list[tuple[float, int]](), list[tuple[float, Vector]]()
    while True:
        while len(running) < workers and (started := replay.start(policy(replay))) is not None:
            number, seconds = started
            running.append((clock + seconds, number))
        if not running:
            return ends
        clock, number = min(running)
        running.remove((clock, number))
        replay.finished(number)
        if replay.reached[number] == replay.num_rungs:
            ends.append((clock * workers, curves[number].vector(replay.num_rungs)))


def curve_of(row: dict[str, str], early: float) -> tuple[Curve, Curve]:
    """With three rungs and with four."""
    losses, log_macs = tuple(float(row[rung]) for rung in RUNGS), log(float(row["macs"]))
    first, seconds = EARLY_STEP / int(row["steps"]), float(row["cpu_s"])
    return (
        Curve(losses, log_macs, seconds),
        Curve((early, *losses), log_macs, seconds, (first, *SHARES)),
    )


def told(curves: Sequence[Curve], reduction: int, orders: int, workers: int) -> dict[str, Any]:
    """Medians and quartiles over random orders, of every policy."""
    ends = [curve.vector(len(curve.shares)) for curve in curves]
    least, most = (tuple(f(axis) for axis in zip(*ends, strict=True)) for f in (min, max))
    whole = sum(curve.seconds for curve in curves)

    def unit(vector: Vector) -> Vector:
        return tuple((x - a) / (b - a) for x, a, b in zip(vector, least, most, strict=True))

    everything = hypervolume([unit(end) for end in ends], REFERENCE)
    volumes: dict[str, dict[float, list[float]]] = {name: {p: [] for p in POINTS} for name in POLICIES}
    times: dict[str, dict[float, list[float]]] = {name: {g: [] for g in GOALS} for name in POLICIES}
    for order in range(orders):
        shuffled = Random(f"order {order}").sample(list(curves), len(curves))
        for name, policy in POLICIES.items():
            found = replayed(shuffled, policy, reduction, workers, order)
            grown, history = list[Vector](), list[tuple[float, float]]()
            for at, vector in found:
                grown.append(unit(vector))
                history.append((at / whole, hypervolume(grown, REFERENCE) / everything))
            for point in POINTS:
                volumes[name][point].append(max((v for at, v in history if at <= point), default=0.0))
            for goal in GOALS:
                times[name][goal].append(next((at for at, v in history if v >= goal), inf))
    return {
        "architectures": len(curves), "seconds_of_all_full_trainings": round(whole),
        "hypervolume": {n: {str(p): spread(v) for p, v in by.items()} for n, by in volumes.items()},
        "time_until": {n: {str(g): spread(v) for g, v in by.items()} for n, by in times.items()},
        "halving_over_full": {
            str(goal): spread([a / b for a, b in zip(by, times["full"][goal], strict=True)])
            for goal, by in times["halving"].items()
        },
    }  # fmt: skip


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Quartiles; None where a quarter or more never got there."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {
        name: round(value, 3) if value < inf else None
        for name, value in (("q25", low), ("median", middle), ("q75", high))
    }


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=RESULTS, metavar="DIR", help="where rungs_models.csv is")
    parser.add_argument("--orders", type=int, default=200, help="random orders of arrival")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULTS / "multifidelity.json", metavar="FILE")
    given = parser.parse_args()
    early = {
        (row["task"], row["number"]): float(row["loss"])
        for row in _table(given.data / "rungs_curves.csv")
        if int(row["step"]) == EARLY_STEP
    }
    curves: dict[str, dict[str, list[Curve]]] = {}
    for row in _table(given.data / "rungs_models.csv"):
        kinds = curve_of(row, early[row["task"], row["number"]])
        for name, curve in zip(("3 rungs", "4 rungs"), kinds, strict=True):
            curves.setdefault(row["task"], {}).setdefault(name, []).append(curve)
    found = {
        "about": "times as shares of training everything to the end; quartiles over random orders of arrival",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": device_facts(),
        "orders": given.orders,
        "workers": given.workers,
        "tasks": {
            name: {
                f"{rungs}, reduction {r}": told(own, r, given.orders, given.workers)
                for rungs, own in kinds.items()
                for r in REDUCTIONS
            }
            for name, kinds in curves.items()
        },
    }
    given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found["tasks"], indent=1))


if __name__ == "__main__":
    main()
