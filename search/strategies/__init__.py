"""Strategies: which architecture next. One file per strategy; `make_strategy` is the list."""

from .make import StrategyKind, make_strategy, strategy_names
from .nsga2 import Nsga2
from .random_search import RandomSearch
from .strategy import Proposal, Strategy, Told
from .tpe import Tpe

__all__ = [
    "Nsga2",
    "Proposal",
    "RandomSearch",
    "Strategy",
    "StrategyKind",
    "Told",
    "Tpe",
    "make_strategy",
    "strategy_names",
]
