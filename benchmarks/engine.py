"""What a trial costs the engine, beside Optuna's storages: ask, store, update of the front.

    python -m benchmarks.engine [--trials 100 1000 10000 50000] [--optuna 100 1000 10000] [--rounds N]
                                [--results N] [--seconds S] [--no-postgresql] [--json FILE]

Ours (`benchmarks.gates_engine.rounds`): a running job of so many trials is taken over; a round is a proposal
with everything that stands around a strategy, and its storing: a transaction for the trial, and one for its
values, count and front. Optuna: a study of as many trials of the same genes; a round is `ask` with the
distributions of all genes, `tell`, and `best_trials`, its front. Both on SQLite and PostgreSQL, Optuna also
in memory, on one machine in one run, the same space, two objectives. A study is filled with `add_trials`,
which is not counted, and grows from size to size; of one that is not full after `--seconds` only that is
told, how far it came.

`asks`: seconds from a question to its answer, four candidates, of every strategy with a model, asked in a
process beside (`search.asking`) that has been started before; each question has a tenth more results.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import optuna
import psycopg
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from sqlalchemy.event import listen

from benchmarks import gates_engine
from evaluators.latency import device_facts
from search.asking import Beside, Question
from search.clock import Clock
from search.history import History
from search.job import parse_job
from search.ledger import Ledger
from search.plan import JobPlan, plan_job
from search.proposer import Proposer
from search.running import owner_name
from search.storage import jobs
from search.storage.database import Database
from search.strategies import StrategyKind, Told, make_strategy
from space.costs import costs
from space.genes import Gene
from space.sampling import sample
from tests.scale import big_job

RESULTS = Path(__file__).parent / "results"
FEWEST_ROUNDS = 5
FILLED_AT_ONCE = 50
SHARES = 20
"""Of the seconds for a storage; each sampler has one at each size for its rounds."""
MODELLED: tuple[StrategyKind, ...] = ("surrogate", "tpe", "gp", "boshnas")
SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "random": lambda: optuna.samplers.RandomSampler(seed=0),
    "nsga2": lambda: optuna.samplers.NSGAIISampler(seed=0),
    "tpe": lambda: optuna.samplers.TPESampler(seed=0, multivariate=True),
}


def ours(database: Database, num_trials: int, plan: JobPlan, rounds: int) -> dict[str, Any]:
    """Rounds of every strategy without a model, on a job of so many trials."""
    stored = big_job(database, num_trials, until="running")
    with database.write() as session:
        job = jobs.take(session, stored.id, owner_name(), 1e6, time.time(), force=True)
    ledger = Ledger(database, job, plan, Clock())
    history = History(ledger)
    history.told()
    return {
        kind: gates_engine.rounds(ledger, history, plan, kind, rounds) for kind in gates_engine.STRATEGIES
    }


def asks(num_results: int, plan: JobPlan) -> dict[str, Any]:
    """The batches of every strategy with a model, up to so many results."""
    rng = Random(0)
    drawn = [sample(plan.space, rng) for _ in range(num_results)]
    rows = [Told(n, one, (2 + rng.random(), 1e-9 * costs(one).macs)) for n, one in enumerate(drawn)]
    found: dict[str, Any] = {}
    for kind in MODELLED:
        strategy = make_strategy(kind, plan.space, 0, plan.objectives)
        beside = Beside(Proposer(strategy, plan.space, seed=0, budget=10**9))
        seconds = []
        for share in (0.7, 0.8, 0.9, 1.0):
            known = rows[: int(share * num_results)]
            began = time.perf_counter()
            beside.ask(Question(len(known), 4, known, [], 0, {one.architecture.id for one in known}))
            beside.answer(None)
            seconds.append(round(time.perf_counter() - began, 3))
        beside.close()
        found[kind] = {"first_with_start": seconds[0], "then": seconds[1:], "results": num_results}
    return found


def optunas(
    storage: BaseStorage,
    filling: BaseStorage,
    sizes: Sequence[int],
    plan: JobPlan,
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    """The same of Optuna's samplers, on one study that grows from size to size, filled through `filling`."""
    genes = [gene for gene in plan.space.genes() if len(gene.options) > 1]
    distributions = {gene.name: distribution(gene) for gene in genes}
    rng, found = Random(0), dict[str, Any]()
    drawn = [plan.space.project(sample(plan.space, rng)) for _ in range(300)]
    rows = [{gene.name: gene.options.index(one[gene.name]) for gene in genes} for one in drawn]
    study = optuna.create_study(storage=filling, directions=["minimize"] * 2, study_name="engine")
    end, filled = time.perf_counter() + seconds, 0
    for size in sizes:
        while filled < size and time.perf_counter() < end:
            part = min(FILLED_AT_ONCE, size - filled)
            study.add_trials(
                optuna.trial.create_trial(
                    params=rng.choice(rows), distributions=distributions,
                    values=[rng.random(), rng.random()],
                )
                for _ in range(part)
            )  # fmt: skip
            filled += part
        if filled < size:
            found[str(size)] = {"filled": filled, "within_s": seconds}
            break
        found[str(size)] = {
            name: _optuna_rounds(
                optuna.load_study(study_name="engine", storage=storage, sampler=make()),
                distributions, rng, rounds, seconds / SHARES,
            )
            for name, make in SAMPLERS.items()
        }  # fmt: skip
    return found


def distribution(gene: Gene) -> BaseDistribution:
    """As our own adapter to Optuna has them, in the form that its storages can keep."""
    last = len(gene.options) - 1
    return IntDistribution(0, last) if gene.ordinal else CategoricalDistribution(list(range(last + 1)))


def _optuna_rounds(
    study: optuna.Study, distributions: Any, rng: Random, rounds: int, seconds: float
) -> dict[str, Any]:
    asked, told, front = [], [], []
    began = time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() - began > seconds:
            break
        at = time.perf_counter()
        trial = study.ask(distributions)
        asked.append(time.perf_counter() - at)
        at = time.perf_counter()
        study.tell(trial, [rng.random(), rng.random()])
        told.append(time.perf_counter() - at)
        at = time.perf_counter()
        assert study.best_trials
        front.append(time.perf_counter() - at)
    whole = [sum(three) for three in zip(asked, told, front, strict=True)]
    parts = {"ask": asked, "store": told, "front": front, "ask_store_and_front": whole}
    return {name: gates_engine.summary(values) for name, values in parts.items()}


def _beside(address: str) -> str:
    """A database of Optuna's own on the same server: its tables have names of ours."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE DATABASE optuna")
    return address.replace("/postgres?", "/optuna?", 1).replace("postgresql://", "postgresql+psycopg://", 1)


def _storages(url: str) -> tuple[BaseStorage, BaseStorage]:
    """A storage as Optuna makes it, and one that does not wait for the disk, to fill it."""
    filling = optuna.storages.RDBStorage(url)
    statement = "PRAGMA synchronous=OFF" if url.startswith("sqlite") else "SET synchronous_commit TO OFF"
    listen(filling.engine, "checkout", lambda connection, *_: connection.cursor().execute(statement))
    return optuna.storages.RDBStorage(url), filling


def measured(given: argparse.Namespace, folder: Path, address: str | None) -> dict[str, Any]:
    plan = plan_job(parse_job({"budget": {"trials": 1_000_000}, "finalists": {"count": 0}}))
    urls = {"sqlite": f"sqlite:///{folder / 'ours.db'}"} | ({"postgresql": address} if address else {})
    found: dict[str, Any] = {"ours": {}, "asks": asks(given.results, plan), "optuna": {}}
    print("asks", json.dumps(found["asks"]), flush=True)
    for name, url in urls.items():
        database = Database.open(url, data_dir=folder / "data")
        found["ours"][name] = {
            str(count): ours(database, count, plan, given.rounds) for count in given.trials
        }
        database.close()
        print(name, json.dumps(found["ours"][name]), flush=True)
    memory = optuna.storages.InMemoryStorage()
    stores: dict[str, tuple[BaseStorage, BaseStorage]] = {
        "memory": (memory, memory),
        "sqlite": _storages(f"sqlite:///{folder / 'optuna.db'}"),
    }
    if address:
        stores["postgresql"] = _storages(_beside(address))
    for name, (storage, filling) in stores.items():
        found["optuna"][name] = optunas(storage, filling, given.optuna, plan, given.rounds, given.seconds)
        print("optuna", name, json.dumps(found["optuna"][name]), flush=True)
    return found


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10_000, 50_000])
    parser.add_argument(
        "--optuna", type=int, nargs="+", default=[100, 1000, 10_000], help="sizes of its studies"
    )
    parser.add_argument("--results", type=int, default=1000, help="that strategies with a model see")
    parser.add_argument("--rounds", type=int, default=100, help="of each, at most")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="for filling a study of Optuna's, for each storage"
    )
    parser.add_argument("--no-postgresql", action="store_true")
    parser.add_argument("--data", type=Path, help="not used: the trials are made up")
    parser.add_argument("--json", type=Path, default=RESULTS / "engine.json", metavar="FILE")
    return parser.parse_args(arguments)


def main() -> None:
    given = options()
    logging.getLogger("optuna").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        if given.no_postgresql:
            measurements = measured(given, Path(name), None)
        else:
            with gates_engine.postgresql(Path(name)) as address:
                measurements = measured(given, Path(name), address)
    found = {
        "about": "milliseconds a trial; rounds on a job or study of so many trials",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": device_facts(),
        "load": os.getloadavg()[0],
        "optuna_version": optuna.__version__,
        **measurements,
    }
    given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
