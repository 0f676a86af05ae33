"""Surrogate and inner evolution: a model of the trials so far proposes what would grow the front most.

    judged value = mean - b * deviation (quality), mean (what the architecture costs);   b = 0, 1/2, 1 in turn
    proposal     = the candidate whose judged vector adds the largest hypervolume to the front so far,
                   pending architectures counted as if they had brought their means

Candidates come from NSGA-II on the judged values (`inner_evolution`), started from the best trials,
homogeneous designs and structured samples. One trial in five goes to the non-dominated candidate the model
knows least about, one in ten to a structured sample. Costs in closed form are computed, not modelled. Until
`WARM_UP` results are in, proposals are stratified by size.

Source: evaluators_and_search.md 12.8, 5.3.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from space.architecture import Architecture
from space.batch_costs import CostTable
from space.sampling import sample
from space.search_space import SearchSpace

from ..objectives import OBJECTIVES
from ..pareto import log_scaled, nondominated_ranks
from ..surrogates import FEWEST_ROWS, Encoder, Surrogate, finished_labels, fit_surrogate
from ..surrogates.ridge import Ridge, fit_ridge
from ..surrogates.rows import Rows
from .growth import Growth
from .inner_evolution import evolve
from .moves import homogeneous
from .nsga2 import survivors
from .optuna_study import recent
from .strategy import Proposal, Told, stream
from .stratified import Stratified

WARM_UP = max(FEWEST_ROWS, 8)
"""Results before the first modelled proposal."""
REFIT_GROWTH = 1.2
"""The models are fitted again when there are a fifth more results."""
OPTIMISM = (0.0, 0.5, 1.0)
EXPLORE_EVERY, RANDOM_EVERY = 5, 10
GENERATIONS, SIZE = 8, 32
"""Of the inner evolution."""
PARENTS = 24
"""Trials that the inner evolution starts from."""
FRESH = 14
"""Homogeneous designs, and as many structured samples, that it starts from."""
MOST_DRAWS = 8
"""Candidates of one trial that are chosen one after the other; what is drawn beyond them repeats the last."""
NEWEST = 400
"""Results besides the front that the models see."""


@dataclass(frozen=True, slots=True)
class _Believed:
    """What the models say of some architectures, logarithmic where the objectives are."""

    mean: np.ndarray
    deviation: np.ndarray
    violation: np.ndarray
    """0 where a measured constraint is expected to be kept."""


@dataclass(frozen=True, slots=True)
class _Brain:
    """Models fitted to results, and the candidates that evolution on them has found."""

    models: Mapping[int, Surrogate]
    """Objective index -> model; the others are computed."""
    feasibility: Ridge | None
    optimism: float
    prior_slope: float = 0.0
    """How much of what the earlier job's model says is in the quality."""
    candidates: tuple[Architecture, ...] = ()
    believed: _Believed | None = None
    """Of the candidates."""


@dataclass(frozen=True)
class SurrogateEvolution:
    """Model-based search behind the strategy contract."""

    space: SearchSpace
    seed: int
    objectives: tuple[str, ...]
    """Objective keys; logarithmic ones are modelled by their logarithm."""
    batch_size: int = 1
    tokens: int | None = None
    """Per sequence, for costs in closed form."""
    computed: bool = True
    """Whether objectives in closed form are those of `space.costs`."""
    prior: tuple[Told, ...] = ()
    """Results of an earlier job on another task, their quality alone: a model of them is the prior mean."""
    generations: int = GENERATIONS
    size: int = SIZE
    _brains: dict[str, _Brain] = field(default_factory=dict, repr=False, compare=False)
    """Digest of the results -> what was learned from them; the latest only."""

    def ask(
        self, number: int, history: Sequence[Told], pending: Sequence[Architecture], *, draw: int = 0
    ) -> Proposal:
        """Failed trials teach nothing; unfinished trainings teach what their end is expected to be."""
        known = recent([told for told in history if told.objectives is not None], self.objectives, NEWEST)
        learned = known[: learned_from(len(known))]
        if len(learned) < WARM_UP:
            return self._warm_up.ask(number, known, pending, draw=draw)
        if number % RANDOM_EVERY == RANDOM_EVERY - 1:
            return Proposal(sample(self.space, stream(self.seed, number, draw)), origin="random")
        brain = self._brain(learned)
        seen = {told.architecture.id for told in history}
        rng = stream(self.seed, "pool", number)
        # half of the candidates, drawn anew for every number: trials asked for at the same time differ
        half = [index for index in range(len(brain.candidates)) if rng.random() < 0.5]
        pool = [index for index in half if brain.candidates[index].id not in seen]
        if not pool:
            return Proposal(sample(self.space, stream(self.seed, number, draw)), origin="random")
        explores = number % EXPLORE_EVERY == EXPLORE_EVERY - 2
        order = self._order(brain, known, pool, pending, explores=explores)
        blocked = {one.id for one in pending}
        # earlier draws of this number stand in pending: the order is that of the whole batch
        free = [one for index in order[draw:] if (one := brain.candidates[index]).id not in blocked]
        how = "least known" if explores else "largest expected growth of the front"
        chosen = free[0] if free else brain.candidates[order[-1]]
        note = f"surrogate over {len(learned)} results, {how}{self._trust(brain)}"
        return Proposal(chosen, origin="model", note=note)

    def expected_growth(self, history: Sequence[Told]) -> float | None:
        """By the mean of what the models say of candidates that are new and within the limits."""
        known = recent([told for told in history if told.objectives is not None], self.objectives, NEWEST)
        learned = known[: learned_from(len(known))]
        if len(learned) < WARM_UP:
            return None
        brain, seen = self._brain(learned), {told.architecture.id for told in history}
        assert brain.believed is not None
        allowed = [
            index
            for index, one in enumerate(brain.candidates)
            if one.id not in seen and brain.believed.violation[index] <= 0
        ]
        vectors = [log_scaled(told.objectives or (), self.objectives) for told in known]
        reached = [v for told, v in zip(known, vectors, strict=True) if told.complete and told.feasible]
        if not reached or not allowed:
            return None
        return Growth.over(vectors, reached).best_gain(brain.believed.mean[allowed])

    def _trust(self, brain: _Brain) -> str:
        """How well the model of the quality orders results that it has not seen."""
        qualities = [i for i, key in enumerate(self.objectives) if OBJECTIVES[key].source == "quality"]
        model = brain.models.get(qualities[0]) if qualities else None
        if model is None:
            return ""
        if not model.evidence.beats_size:
            return "; quality by size alone, for its models are no better than parameter count"
        return f"; it orders unseen results by quality with tau {model.evidence.tau:.2f}"

    @cached_property
    def _warm_up(self) -> Stratified:
        return Stratified(self.space, self.seed)

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.space)

    @cached_property
    def _costs(self) -> CostTable:
        return CostTable(batch_size=self.batch_size, tokens=self.tokens)

    def _brain(self, learned: Sequence[Told]) -> _Brain:
        key = _digest(learned)
        if key not in self._brains:
            found = self._learn(learned, key)
            self._brains.clear()
            self._brains[key] = found
        return self._brains[key]

    def _learn(self, learned: Sequence[Told], digest: str) -> _Brain:
        rows = self._encoder.rows([told.architecture for told in learned])
        vectors = np.array([log_scaled(told.objectives or (), self.objectives) for told in learned])
        fidelity = np.array([told.fidelity for told in learned])
        models: dict[int, Surrogate] = {}
        slope = 0.0
        for index, key in enumerate(self.objectives):
            if not self._is_computed(index):
                labels = vectors[:, index]
                if OBJECTIVES[key].source == "quality":
                    labels = finished_labels(rows, labels, fidelity)
                    earlier = self._earlier(rows)
                    slope = slope_of(earlier, labels)
                    labels = labels - slope * earlier
                models[index] = fit_surrogate(rows, labels)
        kept = np.array([1.0 if told.feasible else -1.0 for told in learned])
        feasibility = fit_ridge(rows.statistics, kept) if np.ptp(kept) else None
        optimism = OPTIMISM[len(learned) % len(OPTIMISM)]
        brain = _Brain(models, feasibility, optimism, slope)
        rng = stream(self.seed, "evolution", digest)
        parents = survivors(learned, self.objectives, PARENTS)
        start = [member.told.architecture for member in parents]
        start += [homogeneous(self.space, rng) for _ in range(FRESH)]
        start += [sample(self.space, rng) for _ in range(FRESH)]

        def judge(some: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
            believed = self._believe(brain, some)
            return believed.mean - optimism * believed.deviation, believed.violation

        found = evolve(self.space, start, judge, rng, generations=self.generations, size=self.size)
        return replace(brain, candidates=tuple(found), believed=self._believe(brain, found))

    @cached_property
    def _prior_model(self) -> Surrogate | None:
        known = [told for told in self.prior if told.objectives is not None]
        if len(known) < FEWEST_ROWS:
            return None
        rows = self._encoder.rows([told.architecture for told in known])
        labels = np.array([(told.objectives or ())[0] for told in known])
        return fit_surrogate(rows, finished_labels(rows, labels, np.array([told.fidelity for told in known])))

    def _earlier(self, rows: Rows) -> np.ndarray:
        """What the earlier job's model says of the architectures; 0 without one."""
        if self._prior_model is None:
            return np.zeros(len(rows))
        return self._prior_model.predict(rows)[0]

    def _is_computed(self, index: int) -> bool:
        return self.computed and OBJECTIVES[self.objectives[index]].source == "static"

    def _believe(self, brain: _Brain, some: Sequence[Architecture]) -> _Believed:
        rows = self._encoder.rows(some)
        mean, deviation = (
            np.zeros((len(some), len(self.objectives))),
            np.zeros((len(some), len(self.objectives))),
        )
        costs = self._costs.costs(some) if len(brain.models) < len(self.objectives) else {}
        for index, key in enumerate(self.objectives):
            if index in brain.models:
                mean[:, index], deviation[:, index] = brain.models[index].predict(rows)
                if brain.prior_slope and OBJECTIVES[key].source == "quality":
                    mean[:, index] += brain.prior_slope * self._earlier(rows)
            else:
                mean[:, index] = np.log(costs[key]) if OBJECTIVES[key].log else costs[key]
        violation = np.zeros(len(some))
        if brain.feasibility is not None:
            violation = np.maximum(0.0, -brain.feasibility.predict(rows.statistics)[0])
        return _Believed(mean, deviation, violation)

    def _order(
        self,
        brain: _Brain,
        known: Sequence[Told],
        pool: Sequence[int],
        pending: Sequence[Architecture],
        *,
        explores: bool,
    ) -> list[int]:
        """The pool's candidates, first choice first; the later ones follow from what the earlier ones
        promise.
        """
        believed = brain.believed
        assert believed is not None
        broken = believed.violation[pool]
        allowed = np.array(pool)[broken <= broken.min()]
        judged = believed.mean - max(brain.optimism, float(explores)) * believed.deviation
        vectors = [log_scaled(told.objectives or (), self.objectives) for told in known]
        if explores:
            extent = np.maximum(np.ptp(np.array(vectors), axis=0), 1e-12)
            unsure = (believed.deviation / extent).sum(axis=1)
            ranks = nondominated_ranks([tuple(row) for row in judged[allowed].tolist()])
            return [i for _, _, i in sorted(zip(ranks, -unsure[allowed], allowed.tolist(), strict=True))]
        own = {brain.candidates[index].id for index in pool}
        outside = [one for one in pending if one.id not in own]
        expected = self._believe(brain, outside).mean if outside else np.zeros((0, len(self.objectives)))
        reached = [v for told, v in zip(known, vectors, strict=True) if told.complete and told.feasible]
        growth = Growth.over(vectors, [*reached, *map(tuple, expected.tolist())])
        picks = len(pending) - len(outside) + MOST_DRAWS
        return [int(allowed[k]) for k in growth.greedy(judged[allowed], picks)]


def learned_from(count: int) -> int:
    """How many of so many results the models are fitted to: all of the first few, later a number that grows
    by a fifth at a time.

    >>> [learned_from(count) for count in (3, 8, 9, 11, 30, 100)]
    [3, 8, 9, 10, 26, 88]
    """
    fitted = min(count, WARM_UP)
    while (following := max(fitted + 1, int(fitted * REFIT_GROWTH))) <= count:
        fitted = following
    return fitted


def slope_of(earlier: np.ndarray, labels: np.ndarray) -> float:
    """The line through both, shrunk to 0 as by one more sample; never falling.

    >>> round(slope_of(np.array([0.0, 1.0, 2.0]), np.array([5.0, 7.0, 9.0])), 2)
    1.5
    """
    spread = float(np.var(earlier))
    if spread <= 0:
        return 0.0
    shared = float(np.mean((earlier - earlier.mean()) * (labels - labels.mean())))
    return max(0.0, shared / spread * len(labels) / (len(labels) + 1))


def _digest(learned: Sequence[Told]) -> str:
    """Of everything the models see."""
    parts = [
        (told.number, told.architecture.id, told.objectives, told.feasible, told.complete, told.fidelity)
        for told in learned
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()
