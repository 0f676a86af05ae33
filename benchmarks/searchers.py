"""Which searcher finds the better front with the same number of evaluations.

    python -m benchmarks.searchers --data DIR [--problems NAME ...] [--searchers NAME ...] [--json FILE]

Hypervolume (`benchmarks.replay`) after 50, 100 and 200 evaluations, the same seeds for every searcher. Ours
are whole: homogeneous start, strategy and polish (`search.proposer`). Peers see the same genes, ordered ones
as integers; one that repeats itself is told the known value and asked again, which costs it nothing. The
grid is every architecture with equal layers in random order.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from benchmarks.replay import PROBLEMS, Problem, homogeneous_grid
from evaluators.latency.target import device_facts
from search.proposer import Proposer
from search.strategies import StrategyKind, Told, make_strategy
from space.genes import Gene

CHECKPOINTS = (50, 100, 200)
SEEDS = 5
REPEATS = 20
"""Times a peer that repeats itself is asked again."""
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


def peer(make: Callable[[int], BaseSampler], problem: Problem, seed: int, evaluations: int) -> Visited:
    genes = [gene for gene in problem.space.genes() if len(gene.options) > 1]
    study = optuna.create_study(sampler=make(seed), directions=["minimize"] * len(problem.objectives))
    known: dict[str, tuple[float, ...]] = {}
    while len(known) < evaluations:
        for attempt in range(REPEATS + 1):
            trial = study.ask()
            asked = problem.space.decode({gene.name: _suggested(trial, gene) for gene in genes})
            if asked.id not in known or attempt == REPEATS:
                break
            study.tell(trial, known[asked.id])
        architecture, values = problem.evaluate(asked, list(known))
        study.tell(trial, values)
        known.setdefault(architecture.id, values)
        yield values


def _suggested(trial: optuna.Trial, gene: Gene) -> Any:
    if gene.ordinal:
        return gene.options[trial.suggest_int(gene.name, 0, len(gene.options) - 1)]
    return gene.options[trial.suggest_categorical(gene.name, list(range(len(gene.options))))]


SEARCHERS: Mapping[str, Callable[[Problem, int, int], Visited]] = {
    "surrogate": lambda *a: ours("surrogate", *a),
    "nsga2": lambda *a: ours("nsga2", *a),
    "random (structured)": lambda *a: ours("random", *a),
    "grid": grid,
    "Optuna random": lambda *a: peer(lambda seed: RandomSampler(seed=seed), *a),
    "Optuna NSGA-II": lambda *a: peer(lambda seed: NSGAIISampler(seed=seed), *a),
    "Optuna TPE": lambda *a: peer(lambda seed: TPESampler(seed=seed, multivariate=True), *a),
}


def run(problem: Problem, searcher: str, seed: int) -> tuple[list[float], float]:
    """Hypervolume at every checkpoint, and seconds of CPU per evaluation."""
    start = time.process_time()
    visited, volumes = [], []
    for values in SEARCHERS[searcher](problem, seed, max(CHECKPOINTS)):
        visited.append(values)
        if len(visited) in CHECKPOINTS:
            volumes.append(problem.hypervolume(visited))
    spent = (time.process_time() - start) / len(visited)
    return volumes + [problem.hypervolume(visited)] * (len(CHECKPOINTS) - len(volumes)), spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with hwgpt, flexibert and lts")
    parser.add_argument(
        "--problems", nargs="+", default=sorted(path.stem for path in PROBLEMS.glob("*.json"))
    )
    parser.add_argument("--searchers", nargs="+", default=list(SEARCHERS), choices=list(SEARCHERS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--json", type=Path, default=RESULT, help="result file; runs it holds are not repeated"
    )
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
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
                runs["runs"].append([round(volume, 5) for volume in volumes])
                runs["seconds"].append(round(spent, 4))
                runs["mean"] = [
                    round(statistics.mean(column), 4) for column in zip(*runs["runs"], strict=True)
                ]
                print(f"{name:18} {searcher:20} {seed}", *runs["runs"][-1], runs["seconds"][-1], flush=True)
                given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
