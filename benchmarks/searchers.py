"""Which searcher finds the better front with the same number of evaluations.

    python -m benchmarks.searchers --data DIR [--problems NAME ...] [--searchers NAME ...] [--json FILE]

Hypervolume (`benchmarks.replay`) after 50, 100 and 200 evaluations, the same seeds for every searcher. Ours
are whole: homogeneous start, strategy and polish (`search.proposer`). Peers see the same genes, ordered ones
as integers; one that repeats itself is told the known value and asked again, which costs it nothing. The
grid is every architecture with equal layers in random order. Syne Tune takes part where it is installed.
The Gaussian processes of Optuna, Ax and NePS take part where they are named, and only to 50 evaluations:
their time grows with the cube of these. Ax goes into the suite's environment (`pip install ax-platform`);
NePS 0.17 holds other packages back and wants one of its own (`pip install neural-pipeline-search -e .`).

`against` in the file: `surrogate` minus every other, mean over the seeds that both have, and the p of the
exact one-sided paired permutation test (with five seeds at best 1/32).
"""

import argparse
import itertools
import json
import logging
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from benchmarks.replay import PROBLEMS, Problem, homogeneous_grid
from evaluators.latency.target import device_facts
from search.proposer import Proposer
from search.strategies import StrategyKind, Told, make_strategy
from space.genes import Gene

CHECKPOINTS = (50, 100, 200)
SEEDS = 5
REPEATS = 20
"""Times a peer that repeats itself is asked again."""
MOST_GP = 50
RESULT = Path(__file__).parent / "results" / "searchers.json"

Visited = Iterator[tuple[float, ...]]
"""Objectives in the order of evaluation."""


def ours(kind: StrategyKind, problem: Problem, seed: int, evaluations: int) -> Visited:
    strategy = make_strategy(kind, problem.space, seed, problem.objectives, computed=False)
    proposer = Proposer(strategy, problem.space, seed=seed, budget=evaluations)
    history: list[Told] = []
    for number in range(evaluations):
        proposal = proposer.candidates(number, 1, history, []).proposals[0]
        seen = [told.architecture.id for told in history]
        architecture, values = problem.evaluate(proposal.architecture, seen)
        history.append(Told(number, architecture, values))
        yield values


def grid(problem: Problem, seed: int, evaluations: int) -> Visited:
    designs = homogeneous_grid(problem.space)
    random.Random(seed).shuffle(designs)
    seen: list[str] = []
    for design in designs[:evaluations]:
        architecture, values = problem.evaluate(design, seen)
        seen.append(architecture.id)
        yield values


class Peer(Protocol):
    """Another project's searcher over indices of options."""

    def ask(self) -> tuple[Any, Mapping[str, int]]: ...

    def tell(self, asked: Any, values: Sequence[float]) -> None: ...


class OptunaPeer:
    def __init__(self, sampler: BaseSampler, genes: Sequence[Gene], objectives: int) -> None:
        self._genes = genes
        self._study = optuna.create_study(sampler=sampler, directions=["minimize"] * objectives)

    def ask(self) -> tuple[Any, Mapping[str, int]]:
        trial = self._study.ask()
        return trial, {gene.name: self._index(trial, gene) for gene in self._genes}

    def _index(self, trial: optuna.Trial, gene: Gene) -> int:
        if gene.ordinal:
            return trial.suggest_int(gene.name, 0, len(gene.options) - 1)
        return int(trial.suggest_categorical(gene.name, list(range(len(gene.options)))))

    def tell(self, asked: Any, values: Sequence[float]) -> None:
        self._study.tell(asked, values)


class SyneTunePeer:
    """MO-REA: regularized evolution with non-dominated sorting, populations and samples as published."""

    def __init__(self, seed: int, genes: Sequence[Gene]) -> None:
        from syne_tune.config_space import choice, randint
        from syne_tune.optimizer.schedulers.multiobjective import multi_objective_regularized_evolution as rea

        places = {
            gene.name: randint(0, len(gene.options) - 1)
            if gene.ordinal
            else choice(list(range(len(gene.options))))
            for gene in genes
        }
        self._searcher = rea.MultiObjectiveRegularizedEvolution(places, random_seed=seed)
        self._count = 0

    def ask(self) -> tuple[Any, Mapping[str, int]]:
        config = self._searcher.suggest()
        return config, {name: int(index) for name, index in config.items()}

    def tell(self, asked: Any, values: Sequence[float]) -> None:
        self._searcher.on_trial_complete(self._count, asked, list(values))
        self._count += 1


class AxPeer:
    """The generation strategy that Ax chooses: Sobol points, then expected hypervolume improvement."""

    def __init__(self, seed: int, genes: Sequence[Gene], objectives: int) -> None:
        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        logging.disable(logging.WARNING)  # it says every trial
        self._names = [gene.name for gene in genes]
        places = [
            RangeParameterConfig(f"g{number}", (0, len(gene.options) - 1), "int")
            if gene.ordinal
            else ChoiceParameterConfig(f"g{number}", list(range(len(gene.options))), "int", is_ordered=False)
            for number, gene in enumerate(genes)
        ]
        self._client = Client(random_seed=seed)
        self._client.configure_experiment(places)
        self._client.configure_optimization(", ".join(f"-v{k}" for k in range(objectives)))

    def ask(self) -> tuple[Any, Mapping[str, int]]:
        ((trial, config),) = self._client.get_next_trials(1).items()
        return trial, {name: int(config[f"g{number}"]) for number, name in enumerate(self._names)}

    def tell(self, asked: Any, values: Sequence[float]) -> None:
        self._client.complete_trial(asked, {f"v{k}": value for k, value in enumerate(values)})


class NepsPeer:
    """Bayesian optimization of NePS: as many random points as genes, then the same criterion as Ax."""

    def __init__(self, seed: int, genes: Sequence[Gene]) -> None:
        import neps
        import torch

        random.seed(seed)
        np.random.seed(seed)  # NePS draws from it
        torch.manual_seed(seed)
        self._names = [gene.name for gene in genes]
        places = {
            f"g{number}": neps.Integer(0, len(gene.options) - 1)
            if gene.ordinal
            else neps.Categorical(tuple(range(len(gene.options))))
            for number, gene in enumerate(genes)
        }
        space = type("Places", (neps.PipelineSpace,), places)()
        self._study = neps.AskAndTell(neps.algorithms.bayesian_optimization(space))

    def ask(self) -> tuple[Any, Mapping[str, int]]:
        trial = self._study.ask()
        return trial, {name: int(trial.config[f"g{number}"]) for number, name in enumerate(self._names)}

    def tell(self, asked: Any, values: Sequence[float]) -> None:
        self._study.tell(asked, list(values))


def peer(
    make: Callable[[int, Sequence[Gene], Problem], Peer], problem: Problem, seed: int, evaluations: int
) -> Visited:
    genes = [gene for gene in problem.space.genes() if len(gene.options) > 1]
    searcher = make(seed, genes, problem)
    known: dict[str, tuple[float, ...]] = {}
    while len(known) < evaluations:
        for attempt in range(REPEATS + 1):
            token, indices = searcher.ask()
            asked = problem.space.decode({gene.name: gene.options[indices[gene.name]] for gene in genes})
            if asked.id not in known or attempt == REPEATS:
                break
            searcher.tell(token, known[asked.id])
        architecture, values = problem.evaluate(asked, list(known))
        searcher.tell(token, values)
        known.setdefault(architecture.id, values)
        yield values


def optunas(make: Callable[[int], BaseSampler]) -> Callable[[Problem, int, int], Visited]:
    def visited(problem: Problem, seed: int, evaluations: int) -> Visited:
        return peer(
            lambda seed, genes, problem: OptunaPeer(make(seed), genes, len(problem.objectives)),
            problem, seed, evaluations,
        )  # fmt: skip

    return visited


SEARCHERS: Mapping[str, Callable[[Problem, int, int], Visited]] = {
    "surrogate": lambda *a: ours("surrogate", *a),
    "nsga2": lambda *a: ours("nsga2", *a),
    "random (structured)": lambda *a: ours("random", *a),
    "grid": grid,
    "Optuna random": optunas(lambda seed: RandomSampler(seed=seed)),
    "Optuna NSGA-II": optunas(lambda seed: NSGAIISampler(seed=seed)),
    "Optuna TPE": optunas(lambda seed: TPESampler(seed=seed, multivariate=True)),
    "Optuna GP": lambda problem, seed, evaluations: optunas(lambda seed: GPSampler(seed=seed))(
        problem, seed, min(evaluations, MOST_GP)
    ),
    "Ax": lambda problem, seed, evaluations: peer(
        lambda seed, genes, problem: AxPeer(seed, genes, len(problem.objectives)),
        problem,
        seed,
        min(evaluations, MOST_GP),
    ),
    "NePS": lambda problem, seed, evaluations: peer(
        lambda seed, genes, _: NepsPeer(seed, genes), problem, seed, min(evaluations, MOST_GP)
    ),
    "Syne Tune MO-REA": lambda *a: peer(lambda seed, genes, _: SyneTunePeer(seed, genes), *a),
}
BY_DEFAULT = [
    name
    for name in SEARCHERS
    if name not in {"Optuna GP", "Ax", "NePS"} and (find_spec("syne_tune") or "Syne" not in name)
]


def run(problem: Problem, searcher: str, seed: int) -> tuple[list[float | None], float]:
    """Hypervolume at every checkpoint, and seconds of CPU per evaluation."""
    start = time.process_time()
    visited, volumes = list[tuple[float, ...]](), list[float | None]()
    for values in SEARCHERS[searcher](problem, seed, max(CHECKPOINTS)):
        visited.append(values)
        if len(visited) in CHECKPOINTS:
            volumes.append(problem.hypervolume(visited))
    spent = (time.process_time() - start) / len(visited)
    # a grid that has come to its end stays where it is
    rest = None if len(visited) == MOST_GP else problem.hypervolume(visited)
    return volumes + [rest] * (len(CHECKPOINTS) - len(volumes)), spent


def against(runs: Mapping[str, Any], other: str) -> dict[str, Any]:
    """`surrogate` minus another searcher on one problem, at every checkpoint."""
    found: dict[str, Any] = {"difference": [], "p": []}
    for k in range(len(CHECKPOINTS)):
        pairs = zip(runs["surrogate"]["runs"], runs[other]["runs"], strict=False)
        differences = [ours[k] - theirs[k] for ours, theirs in pairs if theirs[k] is not None]
        found["difference"].append(round(statistics.mean(differences), 4) if differences else None)
        found["p"].append(round(permutation_p(differences), 4) if differences else None)
        found["seeds"] = max(len(differences), found.get("seeds", 0))
    return found


def permutation_p(differences: Sequence[float]) -> float:
    """Exact one-sided paired permutation test of a mean above 0."""
    signs = list(itertools.product((1, -1), repeat=len(differences)))
    sums = [sum(s * d for s, d in zip(sign, differences, strict=True)) for sign in signs]
    return sum(total >= sum(differences) - 1e-12 for total in sums) / len(sums)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with hwgpt, flexibert and lts")
    parser.add_argument(
        "--problems", nargs="+", default=sorted(path.stem for path in PROBLEMS.glob("*.json"))
    )
    parser.add_argument("--searchers", nargs="+", default=BY_DEFAULT, choices=list(SEARCHERS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--json", type=Path, default=RESULT, help="result file; runs it holds are not repeated"
    )
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")  # those of BoTorch, at every question
    found: dict[str, Any] = {"problems": {}}
    if given.json.exists():
        found = json.loads(given.json.read_text(encoding="utf-8"))
    found |= {"machine": device_facts(), "evaluations": list(CHECKPOINTS)}
    for seed in range(given.seeds):
        for name in given.problems:
            problem = Problem.load(name, given.data)
            for searcher in given.searchers:
                runs = (
                    found["problems"].setdefault(name, {}).setdefault(searcher, {"runs": [], "seconds": []})
                )
                if len(runs["runs"]) > seed:
                    continue
                volumes, spent = run(problem, searcher, seed)
                runs["runs"].append([None if volume is None else round(volume, 5) for volume in volumes])
                runs["seconds"].append(round(spent, 4))
                runs["mean"] = [
                    None if None in column else round(statistics.mean(column), 4)
                    for column in zip(*runs["runs"], strict=True)
                ]
                every = found["problems"][name]
                if "surrogate" in every:
                    found.setdefault("against", {})[name] = {
                        other: against(every, other) for other in every if other != "surrogate"
                    }
                print(f"{name:18} {searcher:20} {seed}", *runs["runs"][-1], runs["seconds"][-1], flush=True)
                given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
