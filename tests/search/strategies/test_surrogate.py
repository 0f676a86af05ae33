"""Parts of the model-based search: growth of a front, structured moves, inner evolution, refits."""

import random
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from search.indicators import hypervolume
from search.pareto import front
from search.strategies import SurrogateEvolution, Told
from search.strategies.growth import REFERENCE, Growth
from search.strategies.inner_evolution import evolve
from search.strategies.moves import child_of, homogeneous, set_run
from search.strategies.surrogate import WARM_UP, learned_from
from space.architecture import Architecture, BytesInterface
from space.costs import costs
from space.sampling import sample
from space.search_space import SearchSpace, load_preset

KEYS = ("bits_per_byte", "params")


@cache
def space() -> SearchSpace:
    interface = BytesInterface(context_length=32, outputs=256)
    domains = {"number_format": ["fp32"], "mixer": ["softmax", "pool"]}
    return load_preset("decoder-small").with_domains(domains).for_interface(interface)


def judged(architecture: Architecture) -> tuple[float, float]:
    """Pools help, and so does size."""
    pools = sum(layer.mixer.kind == "pool" for layer in architecture.layers) / len(architecture.layers)
    size = float(costs(architecture).params)
    return 5.0 - pools - 0.2 * np.log(size), size


def told(count: int) -> list[Told]:
    rng = random.Random(0)
    drawn = [sample(space(), rng) for _ in range(count)]
    return [Told(number, one, judged(one)) for number, one in enumerate(drawn)]


def test_the_greedy_choice_has_the_largest_hypervolume_of_all_next_points() -> None:
    rng = np.random.default_rng(0)
    results, candidates = rng.random((12, 2)), rng.random((30, 2)) - 0.1
    growth = Growth.over(results.tolist(), results.tolist())
    order = growth.greedy(candidates, 4)
    scaled = [tuple(point) for point in ((candidates - growth.low) / growth.extent).tolist()]
    reached = [tuple(point) for point in growth.reached.tolist()]
    for chosen in order:
        volumes = [hypervolume([*reached, point], (REFERENCE, REFERENCE)) for point in scaled]
        assert volumes[chosen] == max(volumes)
        reached.append(scaled[chosen])
    assert len(set(order)) == 4


def test_candidates_that_add_nothing_come_after_those_that_do() -> None:
    growth = Growth.over([(0.0, 1.0), (1.0, 0.0), (0.4, 0.4)], [(0.0, 1.0), (1.0, 0.0), (0.4, 0.4)])
    assert growth.greedy(np.array([[0.9, 0.9], [0.5, 0.5], [0.1, 0.5]]), 3) == [2, 1, 0]


def test_homogeneous_designs_have_equal_layers_and_runs_change_neighbours_alike() -> None:
    rng = random.Random(1)
    for _ in range(20):
        design = homogeneous(space(), rng)
        assert space().contains(design)
        assert len({layer.model_dump_json() for layer in design.layers}) == 1
        changed = set_run(space(), design, rng)
        assert len({layer.model_dump_json() for layer in changed.layers}) <= 2
        assert space().contains(child_of(space(), design, changed, rng))


def test_evolution_finds_the_front_of_what_it_is_shown() -> None:
    def judge(some: Sequence[Architecture]) -> tuple[np.ndarray, np.ndarray]:
        values = np.array([judged(one) for one in some])
        return values, np.zeros(len(some))

    rng = random.Random(2)
    start = [sample(space(), rng) for _ in range(12)]
    found = evolve(space(), start, judge, rng, generations=8, size=12)
    assert len({one.id for one in found}) == len(found)
    values = [judged(one) for one in found]
    best = [found[index] for index in front(values)]
    pools = [layer.mixer.kind == "pool" for one in best for layer in one.layers]
    assert sum(pools) > 0.8 * len(pools)


def test_proposals_follow_what_was_learned() -> None:
    strategy = SurrogateEvolution(space(), 0, KEYS, generations=4, size=12)
    history = told(30)
    proposals = [strategy.ask(number, history, []) for number in (30, 31, 32, 35, 36, 37)]
    assert {proposal.origin for proposal in proposals} == {"model"}
    assert all("tau" in one.note or "no better than parameter count" in one.note for one in proposals)
    kinds = [layer.mixer.kind for proposal in proposals for layer in proposal.architecture.layers]
    assert kinds.count("pool") > 2 * kinds.count("softmax")


def test_the_model_takes_over_after_the_warm_up() -> None:
    strategy = SurrogateEvolution(space(), 0, KEYS, generations=1, size=8)
    assert strategy.ask(WARM_UP - 1, told(WARM_UP - 1), []).origin == "random"
    assert strategy.ask(WARM_UP, told(WARM_UP), []).origin == "model"


def test_architectures_near_infeasible_ones_are_avoided() -> None:
    history = [
        Told(one.number, one.architecture, one.objectives, feasible=one.architecture.d_model < 128)
        for one in told(40)
    ]
    strategy = SurrogateEvolution(space(), 0, KEYS, generations=4, size=12)
    proposals = [strategy.ask(number, history, []) for number in (40, 41, 42, 45, 46, 47)]
    assert sum(proposal.architecture.d_model == 128 for proposal in proposals) <= 1


def test_models_are_fitted_again_for_every_early_result_and_rarely_later() -> None:
    fits = [learned_from(count) for count in range(WARM_UP, 300)]
    assert fits == sorted(fits)
    assert fits[:3] == [WARM_UP, WARM_UP + 1, WARM_UP + 2]
    assert len(set(fits)) < 25
    assert all(fitted >= count / 1.25 for count, fitted in zip(range(WARM_UP, 300), fits, strict=True))


def test_the_model_says_how_much_room_it_sees() -> None:
    strategy = SurrogateEvolution(space(), 0, KEYS, generations=1, size=8)
    assert strategy.expected_growth(told(3)) is None
    poor = strategy.expected_growth(told(WARM_UP))
    assert poor is not None
    assert poor >= 0
    growth = Growth.over([(1.0, 1.0), (0.0, 0.0)], [(0.0, 0.0)])
    assert growth.best_gain(np.array([[0.5, 0.5]])) == 0.0
    assert growth.best_gain(np.array([[-0.1, -0.1]])) == pytest.approx((1.2**2 - 1.1**2) / 1.1**2)
    assert growth.best_gain(np.zeros((0, 2))) is None
