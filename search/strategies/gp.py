"""Gaussian process with expected hypervolume improvement through Optuna, on macro genes.

    macro gene   a gene of the model, or a layer gene that all layers take alike; at most 12 of them
    proposal     the suggested macro genes; every other gene from a random member of the front. Two candidates
                 of a trial share a suggestion; where that leaves no difference, the second is mutated

Three objectives and more become one, anew for every trial: max_i w_i u_i + 0.05 sum_i w_i u_i with random
weights w and objectives u stretched to [0, 1] (ParEGO, Knowles 2006, doi:10.1109/TEVC.2005.851274).

A Gaussian process over every gene of every layer neither fits nor is quick (26 genes and 45 trials: more than
100 s), so this searches what matters most and leaves the rest to what was found. Source: Optuna 5.0
(`optuna_study`); evaluators_and_search.md 12.8.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from space.architecture import Architecture
from space.gene import Value
from space.genes import Gene
from space.sampling import mutate, sample
from space.search_space import SearchSpace

from ..pareto import Vector, log_scaled, unit
from .nsga2 import survivors
from .optuna_study import Study, distribution, gp_sampler, recent
from .strategy import Proposal, Told, stream, stream_seed

WARM_UP = 12
MOST_GENES = 12
MOST_OBJECTIVES = 2
"""More take minutes to divide into boxes of hypervolume."""
NEWEST = 100
"""Results besides the front that the model sees: its time grows with their cube."""
_FIRST = ("num_layers", "d_model", "mixer", "feed_forward", "ff_ratio", "heads", "head_width", "activation")
"""Layer genes that come before others when there are too many."""


@dataclass(frozen=True)
class GaussianProcessSearch:
    """Optuna's GPSampler behind the strategy contract."""

    space: SearchSpace
    seed: int
    objectives: tuple[str, ...]
    """Objective keys; logarithmic ones are modelled by their logarithm."""
    _suggested: dict[object, dict[str, int]] = field(default_factory=dict, repr=False, compare=False)
    """Question -> macro genes; the latest only."""

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """Random until `WARM_UP` finished and feasible results are in; others only say where not to look."""
        rng = stream(self.seed, number, draw)
        known = [told for told in history if told.objectives is not None]
        if sum(told.complete and told.feasible for told in known) < WARM_UP or not self._genes:
            return Proposal(sample(self.space, rng), origin="random")
        seen = recent(known, self.objectives, NEWEST)
        # the second draw of a pair does not count the first, which stands last in pending, as under way
        indices = self._suggest(number, draw // 2, seen, pending[: len(pending) - draw % 2])
        best = [member.told for member in survivors(known, self.objectives, 40) if member.rank == 0]
        rest = rng.choice(best)
        genotype = self.space.project(rest.architecture)
        for gene in self._genes:
            for name in self._names(gene):
                genotype[name] = gene.options[indices[gene.key]]
        note = f"gaussian process over {len(seen)} results"
        found = self.space.decode(genotype)
        if found.id in {one.id for one in pending}:  # the other of the pair
            found = mutate(self.space, found, rng)
        return Proposal(found, origin="model", parents=(rest.number,), note=note)

    def _suggest(
        self, number: int, pair: int, seen: Sequence[Told], pending: Sequence[Architecture]
    ) -> dict[str, int]:
        """Option index of every macro gene; kept for the other draw of the pair, for a fit takes a second."""
        facts = tuple(
            (one.number, one.architecture.id, one.objectives, one.complete, one.feasible) for one in seen
        )
        key = (number, pair, facts, tuple(one.id for one in pending))
        if key not in self._suggested:
            values = self._values(seen, stream(self.seed, number, pair))
            macro = {gene.key: distribution(gene) for gene in self._genes}
            study = Study(macro, len(values[0]), self._indices)
            trials = [study.finished(*one) for one in zip(seen, values, strict=True)]
            trials += [study.running(one) for one in pending]
            seed = stream_seed(self.seed, number, pair)
            found = study.suggest(trials, lambda: gp_sampler(seed))
            self._suggested.clear()
            self._suggested[key] = found
        return self._suggested[key]

    def _values(self, seen: Sequence[Told], rng: random.Random) -> list[tuple[float, ...]]:
        """What the process models: two objectives as they are, more as one."""
        vectors = [log_scaled(told.objectives or (), self.objectives) for told in seen]
        return vectors if len(self.objectives) <= MOST_OBJECTIVES else chebyshev(vectors, rng)

    @cached_property
    def _genes(self) -> tuple[Gene, ...]:
        """The macro genes with a choice, layer genes as those of the first layer."""
        macro = [gene for gene in self.space.genes() if gene.layer in (None, 0) and len(gene.options) > 1]
        first = sorted(macro, key=lambda gene: _FIRST.index(gene.key) if gene.key in _FIRST else len(_FIRST))
        return tuple(first[:MOST_GENES])

    def _names(self, gene: Gene) -> list[str]:
        if gene.layer is None:
            return [gene.name]
        return [f"layer{layer}.{gene.key}" for layer in range(max(self.space.domains.num_layers))]

    def _indices(self, architecture: Architecture) -> dict[str, int]:
        """The option that most layers have; of equally frequent ones the first."""
        genotype = self.space.project(architecture)
        depth = len(architecture.layers)
        found: dict[str, int] = {}
        for gene in self._genes:
            values: Counter[Value] = Counter(genotype[name] for name in self._names(gene)[:depth])
            found[gene.key] = gene.options.index(values.most_common(1)[0][0])
        return found


def chebyshev(vectors: Sequence[Vector], rng: random.Random) -> list[tuple[float, ...]]:
    """One number for every vector, by weights drawn evenly from those that sum to 1."""
    drawn = [rng.expovariate(1.0) for _ in vectors[0]]
    weights = [one / sum(drawn) for one in drawn]
    parts = [[w * u for w, u in zip(weights, point, strict=True)] for point in unit(vectors)]
    return [(max(part) + 0.05 * sum(part),) for part in parts]
