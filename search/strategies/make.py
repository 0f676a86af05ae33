"""The list of strategies: the kinds of `search.job.StrategySpec`, and how each is made."""

from collections.abc import Sequence
from typing import Literal, assert_never, get_args

from space.search_space import SearchSpace

from .nsga2 import Nsga2
from .random_search import RandomSearch
from .strategy import Strategy
from .tpe import Tpe

StrategyKind = Literal["random", "nsga2", "tpe"]


def strategy_names() -> tuple[str, ...]:
    return get_args(StrategyKind)


def make_strategy(kind: StrategyKind, space: SearchSpace, seed: int, objectives: Sequence[str]) -> Strategy:
    """The strategy of a job. `objectives`: objective keys, in the order of `Told.objectives`."""
    match kind:
        case "random":
            return RandomSearch(space, seed)
        case "nsga2":
            return Nsga2(space, seed, tuple(objectives))
        case "tpe":
            return Tpe(space, seed, tuple(objectives))
        case _:
            assert_never(kind)
