"""Tree-structured Parzen estimator through Optuna, for several objectives.

    l(x): density of the good trials (lowest non-dominated ranks, ties by hypervolume subset), g(x): of the
    others the candidate with the largest l(x) / g(x) is proposed; genes are modelled jointly (`multivariate`)

Source: Ozaki et al. 2022 (MOTPE), doi:10.1613/jair.1.13188; Optuna 5.0. Every call of Optuna in this project
is in this file. The study lives in memory, is rebuilt for every ask from the history (the front and the
newest results) and reseeded by (seed, number, draw); pending architectures enter as running trials, which
Optuna penalises. A gene enters as the index of its option: ordered genes as integers, the others as
categories.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from space.architecture import Architecture
from space.genes import Gene
from space.sampling import sample
from space.search_space import SearchSpace

from ..pareto import front, log_scaled
from .strategy import Proposal, Told, stream, stream_seed

WARM_UP = 10
"""Results before the first modelled proposal; until then structured samples, which Optuna's own start is
not.
"""
NEWEST = 1000
"""Results besides the front that the model sees."""


@dataclass(frozen=True)
class Tpe:
    """Optuna's multivariate TPESampler behind the strategy contract."""

    space: SearchSpace
    seed: int
    objectives: tuple[str, ...]
    """Objective keys; logarithmic ones are modelled by their logarithm."""
    _indices: dict[str, dict[str, int]] = field(default_factory=dict, repr=False, compare=False)
    """Architecture id -> option indices of its genes: every ask looks at every result."""

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """Random until `WARM_UP` results are in; failed trials teach nothing. What lies outside the space
        enters as the genotype nearest to it.
        """
        known = [told for told in history if told.objectives is not None]
        if len(known) < WARM_UP:
            return Proposal(sample(self.space, stream(self.seed, number, draw)), origin="random")
        seen = recent(known, self.objectives)
        genes = [gene for gene in self.space.genes() if len(gene.options) > 1]
        distributions = {gene.name: _distribution(gene) for gene in genes}
        model = _Model(self.space, genes, distributions, self.objectives, self._indices)
        trials = [model.finished(told) for told in seen]
        trials += [model.running(one) for one in pending]
        indices = model.suggest(trials, stream_seed(self.seed, number, draw))
        genotype = {gene.name: gene.options[indices[gene.name]] for gene in genes}
        return Proposal(self.space.decode(genotype), origin="model", note=f"tpe over {len(seen)} results")


def recent(known: Sequence[Told], objectives: Sequence[str]) -> list[Told]:
    """The feasible front and the `NEWEST` latest results, by number."""
    ordered = sorted(known, key=lambda told: told.number)
    vectors = {
        told.number: log_scaled(told.objectives, objectives)
        for told in ordered
        if told.objectives is not None and told.feasible and told.complete
    }
    numbers = list(vectors)
    kept = {numbers[index] for index in front(list(vectors.values()))}
    kept |= {told.number for told in ordered[-NEWEST:]}
    return [told for told in ordered if told.number in kept]


@dataclass(frozen=True, slots=True)
class _Model:
    """The border to Optuna: trials in, option indices out."""

    space: SearchSpace
    genes: Sequence[Gene]
    """Those with a choice."""
    distributions: Mapping[str, BaseDistribution]
    objectives: tuple[str, ...]
    known: dict[str, dict[str, int]]

    def finished(self, told: Told) -> FrozenTrial:
        """Results of unfinished trainings enter as pruned: never among the good while a complete one is
        left.
        """
        assert told.objectives is not None
        return create_trial(
            state=TrialState.COMPLETE if told.complete else TrialState.PRUNED,
            values=log_scaled(told.objectives, self.objectives) if told.complete else None,
            params=self._indices(told.architecture),
            distributions=dict(self.distributions),
            constraints={"limits": 0.0 if told.feasible else told.violation or 1.0},
        )

    def running(self, architecture: Architecture) -> FrozenTrial:
        return create_trial(
            state=TrialState.RUNNING,
            params=self._indices(architecture),
            distributions=dict(self.distributions),
        )

    def suggest(self, trials: Sequence[FrozenTrial], seed: int) -> dict[str, int]:
        """Option index of every gene."""
        with _quiet():
            sampler = optuna.samplers.TPESampler(
                seed=seed, multivariate=True, n_startup_trials=0, constant_liar=True
            )
            study = optuna.create_study(
                storage=optuna.storages.InMemoryStorage(),
                sampler=sampler,
                directions=["minimize"] * len(self.objectives),
            )
            study.add_trials(trials)
            params = study.ask(dict(self.distributions)).params
        return {name: int(index) for name, index in params.items()}

    def _indices(self, architecture: Architecture) -> dict[str, int]:
        if architecture.id not in self.known:
            genotype = self.space.project(architecture)
            found = {gene.name: gene.options.index(genotype[gene.name]) for gene in self.genes}
            self.known[architecture.id] = found
        return self.known[architecture.id]


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


def _distribution(gene: Gene) -> BaseDistribution:
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
