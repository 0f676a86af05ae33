"""Strategies: which architecture next. One file per strategy; `make_strategy` is the list."""

from ..job import StrategyKind
from .boshnas import Boshnas
from .entropy import Entropy
from .gp import GaussianProcessSearch
from .local_search import LocalSearch
from .make import is_modelled, make_strategy, strategy_names
from .nsga2 import Nsga2
from .nsga3 import Nsga3
from .pareto_evolution import ParetoEvolution
from .random_search import RandomSearch
from .regularized_evolution import RegularizedEvolution
from .strategy import Foreseeing, Proposal, Strategy, Told
from .stratified import Stratified
from .surrogate import SurrogateEvolution
from .tpe import Tpe

__all__ = [
    "Boshnas",
    "Entropy",
    "Foreseeing",
    "GaussianProcessSearch",
    "LocalSearch",
    "Nsga2",
    "Nsga3",
    "ParetoEvolution",
    "Proposal",
    "RandomSearch",
    "RegularizedEvolution",
    "Strategy",
    "StrategyKind",
    "Stratified",
    "SurrogateEvolution",
    "Told",
    "Tpe",
    "is_modelled",
    "make_strategy",
    "strategy_names",
]
