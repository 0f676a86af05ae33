"""One contract for every strategy, and that each beats random search on a problem with a known front."""

import itertools
import math
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from search.indicators import hypervolume
from search.job import StrategySpec
from search.proposer import Proposer, SpaceExhausted
from search.strategies import (
    Proposal,
    Strategy,
    StrategyKind,
    SurrogateEvolution,
    Told,
    make_strategy,
    strategy_names,
)
from space.architecture import Architecture, BytesInterface
from space.genes import LAYER_GENES
from space.sampling import sample
from space.search_space import SearchSpace, load_preset

OBJECTIVES = ("bits_per_byte", "error")
KINDS: tuple[StrategyKind, ...] = get_args(StrategyKind)
Evaluate = Callable[[Architecture], tuple[float, ...]]


@cache
def space() -> SearchSpace:
    """One layer setting for all layers: few genes, so that a model is quick to fit."""
    changes = {"shared": list(LAYER_GENES), "number_format": ["fp32"]}
    return (
        load_preset("decoder-small")
        .with_domains(changes)
        .for_interface(BytesInterface(context_length=32, outputs=256))
    )


def zdt1(architecture: Architecture) -> tuple[float, ...]:
    """ZDT1 (Zitzler et al. 2000) on the active genes: width against the distance of all others from their
    first.
    """
    genotype = space().project(architecture)
    place = {
        gene.name: gene.options.index(genotype[gene.name]) / (len(gene.options) - 1)
        for gene in space().active_genes(genotype)
        if len(gene.options) > 1
    }
    first = place.pop("d_model")
    g = 1 + 9 * sum(place.values()) / len(place)
    return first, g * (1 - math.sqrt(first / g))


@cache
def made(kind: StrategyKind, where: SearchSpace, objectives: tuple[str, ...] = OBJECTIVES) -> Strategy:
    """The strategy of a job, one for all tests; an inner evolution is cut short to save time."""
    return short(make_strategy(kind, where, 7, objectives))


def short(strategy: Strategy) -> Strategy:
    return replace(strategy, generations=2, size=10) if isinstance(strategy, SurrogateEvolution) else strategy


def told(count: int, seed: int = 0, evaluate: Evaluate = zdt1) -> list[Told]:
    """A random history with a failed and an infeasible trial in it."""
    rng = random.Random(seed)
    drawn = [sample(space(), rng) for _ in range(count)]
    rows = [Told(number, one, evaluate(one)) for number, one in enumerate(drawn)]
    if count > 6:
        rows[3] = Told(3, drawn[3], None)
        rows[5] = Told(5, drawn[5], evaluate(drawn[5]), feasible=False, violation=0.5)
        rows[6] = Told(6, drawn[6], evaluate(drawn[6]), complete=False)
    return rows


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> StrategyKind:
    found: StrategyKind = request.param
    return found


@pytest.fixture
def strategy(kind: StrategyKind) -> Strategy:
    return made(kind, space())


def test_every_kind_of_a_job_file_is_a_strategy() -> None:
    assert get_args(StrategySpec.model_fields["kind"].annotation) == KINDS == strategy_names()


@pytest.mark.parametrize("count", [3, 16])
def test_the_same_question_has_the_same_answer_whatever_the_order_of_history(
    strategy: Strategy, count: int
) -> None:
    history, pending = told(count), [one.architecture for one in told(3, seed=9)]
    answer = strategy.ask(count, history, pending)
    strategy.ask(count + 1, history, pending)
    assert strategy.ask(count, history[::-1], pending) == answer


def test_draws_and_numbers_differ_while_the_earlier_ones_are_pending(strategy: Strategy) -> None:
    history = told(16)
    drawn: list[Architecture] = []
    for draw in range(2):
        drawn.append(strategy.ask(16, history, drawn, draw=draw).architecture)
    numbered: list[Architecture] = []
    for number in range(16, 18):
        numbered.append(strategy.ask(number, history, numbered).architecture)
    assert len({one.id for one in (*drawn, *numbered)}) > 1


@pytest.mark.parametrize("count", [0, 1, 16])
def test_proposals_are_members_whose_parents_are_known(strategy: Strategy, count: int) -> None:
    history = told(count)
    for number in (count, count + 1):
        proposal = strategy.ask(number, history, [])
        assert space().contains(proposal.architecture)
        assert set(proposal.parents) <= {one.number for one in history if one.objectives is not None}


def test_failed_trials_alone_teach_nothing(strategy: Strategy) -> None:
    history = [Told(one.number, one.architecture, None) for one in told(30)]
    assert strategy.ask(30, history, []) == strategy.ask(30, [], [])


def test_a_history_of_equal_objectives_is_no_obstacle(strategy: Strategy) -> None:
    history = told(16, evaluate=lambda _: (1.0, 1.0))
    assert space().contains(strategy.ask(16, history, []).architecture)


def test_architectures_from_outside_the_space_are_no_obstacle(strategy: Strategy) -> None:
    wide = load_preset("decoder-small").for_interface(BytesInterface(context_length=64, outputs=256))
    rng = random.Random(1)
    outside = [Told(number, sample(wide, rng), (1.0 + number, 20.0 - number)) for number in range(16)]
    proposal = strategy.ask(16, outside, [sample(wide, rng)])
    assert space().contains(proposal.architecture)


def test_infeasible_results_alone_are_no_obstacle(strategy: Strategy) -> None:
    history = [
        Told(one.number, one.architecture, one.objectives, feasible=False, violation=0.1 + one.number)
        for one in told(16)
    ]
    assert space().contains(strategy.ask(16, history, []).architecture)


def test_results_of_unfinished_trainings_alone_are_no_obstacle(strategy: Strategy) -> None:
    history = [
        Told(one.number, one.architecture, one.objectives, complete=False, fidelity=0.25) for one in told(16)
    ]
    assert space().contains(strategy.ask(16, history, []).architecture)


def test_four_objectives_are_no_obstacle(kind: StrategyKind) -> None:
    keys = ("bits_per_byte", "latency_s", "error", "params")

    def evaluate(architecture: Architecture) -> tuple[float, ...]:
        first, second = zdt1(architecture)
        return (second, 0.001 + first, 1.0 / (1.0 + second), 1e4 + architecture.d_model)

    strategy = made(kind, space(), keys)
    assert space().contains(strategy.ask(16, told(16, evaluate=evaluate), []).architecture)


def test_every_architecture_of_a_tiny_space_is_proposed_once(kind: StrategyKind) -> None:
    names = {gene.key: gene.options[0] for gene in space().genes()}
    tiny = space().with_domains({**names, "d_model": [32, 64, 128], "num_layers": [1, 2, 3]})
    proposer = Proposer(made(kind, tiny), tiny, seed=7, budget=100)
    history: list[Told] = []
    for number in range(tiny.size()):
        found = proposer.candidates(number, 1, history, []).proposals[0].architecture
        history.append(Told(number, found, (float(found.d_model), 9.0 - len(found.layers))))
    assert len({one.architecture.id for one in history}) == tiny.size()
    with pytest.raises(SpaceExhausted):
        proposer.candidates(tiny.size(), 1, history, [])


@pytest.mark.soak
def test_a_space_with_every_choice_is_no_obstacle(kind: StrategyKind) -> None:
    wide = load_preset("decoder-full").for_interface(BytesInterface(context_length=32, outputs=256))
    rng = random.Random(2)
    drawn = [sample(wide, rng) for _ in range(14)]
    history = [Told(number, one, (1.0 + number, 20.0 - number)) for number, one in enumerate(drawn)]
    strategy = made(kind, wide)
    assert wide.contains(strategy.ask(14, history, drawn[:2]).architecture)


def answer(kind: StrategyKind) -> str:
    return made(kind, space()).ask(20, told(20), []).architecture.id


@pytest.mark.slow
def test_another_process_gives_the_same_answer() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_contract import *\n"
        "for kind in KINDS: print(answer(kind))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert printed == [answer(kind) for kind in KINDS]


def search(strategy: Strategy, evaluations: int) -> float:
    """Hypervolume after a search in turn."""
    history: list[Told] = []
    for number in range(evaluations):
        proposal: Proposal = strategy.ask(number, history, [])
        history.append(Told(number, proposal.architecture, zdt1(proposal.architecture)))
    return hypervolume([one.objectives for one in history if one.objectives], (1.1, 6.0))


def permutation_p(differences: Sequence[float]) -> float:
    """One-sided paired permutation test of mean > 0, exact."""
    signs = itertools.product((1, -1), repeat=len(differences))
    sums = [sum(s * d for s, d in zip(sign, differences, strict=True)) for sign in signs]
    return sum(total >= sum(differences) - 1e-12 for total in sums) / len(sums)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("kind", "seeds", "evaluations"), [("nsga2", 10, 100), ("tpe", 5, 40), ("surrogate", 5, 24)]
)
def test_a_strategy_that_learns_beats_random_search(kind: StrategyKind, seeds: int, evaluations: int) -> None:
    """Equal evaluations, paired seeds, p < 0.05 (evaluators_and_search.md 16.7)."""
    learned = [search(short(make_strategy(kind, space(), s, OBJECTIVES)), evaluations) for s in range(seeds)]
    blind = [search(make_strategy("random", space(), s, OBJECTIVES), evaluations) for s in range(seeds)]
    assert permutation_p([a - b for a, b in zip(learned, blind, strict=True)]) < 0.05
