"""The list of strategies: the kinds of `search.job.StrategySpec`, and how each is made."""

from collections.abc import Sequence
from typing import Literal, assert_never, get_args

from space.search_space import SearchSpace

from .boshnas import Boshnas
from .entropy import Entropy
from .gp import GaussianProcessSearch
from .local_search import LocalSearch
from .nsga2 import Nsga2
from .nsga3 import Nsga3
from .pareto_evolution import ParetoEvolution
from .random_search import RandomSearch
from .regularized_evolution import RegularizedEvolution
from .strategy import Strategy
from .stratified import Stratified
from .surrogate import SurrogateEvolution
from .tpe import Tpe

StrategyKind = Literal[
    "surrogate",
    "nsga2",
    "nsga3",
    "regularized_evolution",
    "pareto_evolution",
    "tpe",
    "gp",
    "boshnas",
    "entropy",
    "local_search",
    "stratified",
    "random",
]


def strategy_names() -> tuple[str, ...]:
    return get_args(StrategyKind)


def make_strategy(
    kind: StrategyKind,
    space: SearchSpace,
    seed: int,
    objectives: Sequence[str],
    *,
    batch_size: int = 1,
    tokens: int | None = None,
    computed: bool = True,
) -> Strategy:
    """The strategy of a job. `objectives`: objective keys, in the order of `Told.objectives`.

    `batch_size`, `tokens`: of the job's target. `computed`: whether objectives in closed form are those of
    `space.costs`, which a model then need not learn.
    """
    keys = tuple(objectives)
    match kind:
        case "surrogate":
            return SurrogateEvolution(
                space, seed, keys, batch_size=batch_size, tokens=tokens, computed=computed
            )
        case "nsga2":
            return Nsga2(space, seed, keys)
        case "nsga3":
            return Nsga3(space, seed, keys)
        case "regularized_evolution":
            return RegularizedEvolution(space, seed, keys)
        case "pareto_evolution":
            return ParetoEvolution(space, seed, keys)
        case "tpe":
            return Tpe(space, seed, keys)
        case "gp":
            return GaussianProcessSearch(space, seed, keys)
        case "boshnas":
            return Boshnas(space, seed, keys)
        case "entropy":
            return Entropy(space, seed, keys)
        case "local_search":
            return LocalSearch(space, seed, keys)
        case "stratified":
            return Stratified(space, seed)
        case "random":
            return RandomSearch(space, seed)
        case _:
            assert_never(kind)
