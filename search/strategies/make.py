"""How each kind of strategy of `search.job` is made."""

from collections.abc import Callable, Sequence
from typing import get_args

from space.search_space import SearchSpace

from ..job import StrategyKind
from .boshnas import Boshnas
from .entropy import Entropy
from .gp import GaussianProcessSearch
from .local_search import LocalSearch
from .nsga2 import Nsga2
from .nsga3 import Nsga3
from .pareto_evolution import ParetoEvolution
from .random_search import RandomSearch
from .regularized_evolution import RegularizedEvolution
from .strategy import Strategy, Told
from .stratified import Stratified
from .surrogate import SurrogateEvolution
from .tpe import Tpe

_PLAIN: dict[StrategyKind, Callable[[SearchSpace, int, tuple[str, ...]], Strategy]] = {
    "nsga2": Nsga2,
    "nsga3": Nsga3,
    "regularized_evolution": RegularizedEvolution,
    "pareto_evolution": ParetoEvolution,
    "tpe": Tpe,
    "gp": GaussianProcessSearch,
    "boshnas": Boshnas,
    "entropy": Entropy,
    "local_search": LocalSearch,
}


_MODELLED = (SurrogateEvolution, Tpe, GaussianProcessSearch, Boshnas)


def is_modelled(strategy: Strategy) -> bool:
    """Whether it fits a model to the results, which takes long."""
    return isinstance(strategy, _MODELLED)


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
    prior: Sequence[Told] = (),
) -> Strategy:
    """The strategy of a job. `objectives`: objective keys, in the order of `Told.objectives`.

    `batch_size`, `tokens`: of the job's target. `computed`: whether objectives in closed form are those of
    `space.costs`, which a model then need not learn. `prior`: quality of architectures on another task.
    """
    keys = tuple(objectives)
    match kind:
        case "surrogate":
            return SurrogateEvolution(
                space, seed, keys, batch_size=batch_size, tokens=tokens, computed=computed, prior=tuple(prior)
            )
        case "stratified":
            return Stratified(space, seed)
        case "random":
            return RandomSearch(space, seed)
        case _:
            return _PLAIN[kind](space, seed, keys)
