"""Tree-structured Parzen estimator through Optuna, for several objectives.

    l(x): density of the good trials (lowest non-dominated ranks, ties by hypervolume subset), g(x): of the
    others the candidate with the largest l(x) / g(x) is proposed; genes are modelled jointly (`multivariate`)

Source: Ozaki et al. 2022 (MOTPE), doi:10.1613/jair.1.13188; Optuna 5.0 (`optuna_study`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from space.architecture import Architecture
from space.genes import Gene
from space.sampling import sample
from space.search_space import SearchSpace

from ..pareto import log_scaled
from .optuna_study import Study, distribution, recent, tpe_sampler
from .strategy import Proposal, Told, stream, stream_seed

WARM_UP = 10
"""Results before the first modelled proposal; until then structured samples, which Optuna's own start is
not.
"""


@dataclass(frozen=True)
class Tpe:
    """Optuna's multivariate TPESampler behind the strategy contract."""

    space: SearchSpace
    seed: int
    objectives: tuple[str, ...]
    """Objective keys; logarithmic ones are modelled by their logarithm."""
    _known: dict[str, dict[str, int]] = field(default_factory=dict, repr=False, compare=False)
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
        distributions = {gene.name: distribution(gene) for gene in self._genes}
        study = Study(distributions, len(self.objectives), self._indices)
        trials = [study.finished(told, log_scaled(told.objectives or (), self.objectives)) for told in seen]
        trials += [study.running(one) for one in pending]
        seed = stream_seed(self.seed, number, draw)
        indices = study.suggest(trials, lambda: tpe_sampler(seed))
        genotype = {gene.name: gene.options[indices[gene.name]] for gene in self._genes}
        return Proposal(self.space.decode(genotype), origin="model", note=f"tpe over {len(seen)} results")

    @cached_property
    def _genes(self) -> tuple[Gene, ...]:
        """Those with a choice."""
        return tuple(gene for gene in self.space.genes() if len(gene.options) > 1)

    def _indices(self, architecture: Architecture) -> dict[str, int]:
        if architecture.id not in self._known:
            genotype = self.space.project(architecture)
            found = {gene.name: gene.options.index(genotype[gene.name]) for gene in self._genes}
            self._known[architecture.id] = found
        return self._known[architecture.id]
