"""The border to Optuna: results in, option indices out. Every call of Optuna in this project is in this file.

The study lives in memory, is rebuilt for every ask from the history (the front and the newest results) and
its sampler is seeded by (seed, number, draw); pending architectures enter as running trials. A gene enters as
the index of its option: ordered genes as integers, the others as categories.

Source: Optuna 5.0; evaluators_and_search.md 15.2.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from space.architecture import Architecture
from space.genes import Gene

from ..pareto import front, log_scaled
from .strategy import Told

NEWEST = 1000
"""Results besides the front that a model sees."""
Indices = Callable[[Architecture], dict[str, int]]
"""An architecture's option index of every gene."""


def recent(known: Sequence[Told], objectives: Sequence[str], newest: int = NEWEST) -> list[Told]:
    """The feasible front and the `newest` latest results, by number."""
    ordered = sorted(known, key=lambda told: told.number)
    vectors = {
        told.number: log_scaled(told.objectives, objectives)
        for told in ordered
        if told.objectives is not None and told.feasible and told.complete
    }
    numbers = list(vectors)
    kept = {numbers[index] for index in front(list(vectors.values()))}
    kept |= {told.number for told in ordered[-newest:]}
    return [told for told in ordered if told.number in kept]


@dataclass(frozen=True, slots=True)
class Study:
    """One question to an Optuna sampler."""

    distributions: Mapping[str, BaseDistribution]
    objectives: int
    indices: Indices

    def finished(self, told: Told, values: Sequence[float]) -> FrozenTrial:
        """Results of unfinished trainings enter as pruned: never among the good while a complete one is
        left.
        """
        return create_trial(
            state=TrialState.COMPLETE if told.complete else TrialState.PRUNED,
            values=list(values) if told.complete else None,
            params=self.indices(told.architecture),
            distributions=dict(self.distributions),
            constraints={"limits": 0.0 if told.feasible else told.violation or 1.0},
        )

    def running(self, architecture: Architecture) -> FrozenTrial:
        return create_trial(
            state=TrialState.RUNNING,
            params=self.indices(architecture),
            distributions=dict(self.distributions),
        )

    def suggest(self, trials: Sequence[FrozenTrial], make: Callable[[], BaseSampler]) -> dict[str, int]:
        """Option index of every gene."""
        with _quiet():
            study = optuna.create_study(
                storage=optuna.storages.InMemoryStorage(),
                sampler=make(),
                directions=["minimize"] * self.objectives,
            )
            study.add_trials(trials)
            params = study.ask(dict(self.distributions)).params
        return {name: int(index) for name, index in params.items()}


def tpe_sampler(seed: int) -> BaseSampler:
    """Genes modelled jointly, running trials penalised."""
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=0, constant_liar=True)


def gp_sampler(seed: int) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=0, deterministic_objective=False)


class _Steps(IntDistribution):
    """Never changed, so one object serves every trial: Optuna copies each trial it takes, and a large space
    has hundreds of genes.
    """

    def __deepcopy__(self, memo: object) -> Self:
        return self


class _Names(CategoricalDistribution):
    """As `_Steps`."""

    def __deepcopy__(self, memo: object) -> Self:
        return self


def distribution(gene: Gene) -> BaseDistribution:
    last = len(gene.options) - 1
    return _Steps(0, last) if gene.ordinal else _Names(list(range(last + 1)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna logs every study it creates."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
