"""What single strategies promise beyond the common contract."""

import itertools
import random
from functools import cache

import numpy as np
import pytest

from evaluators.proxies.entropy_mad import EntropyMad
from search.strategies import (
    Entropy,
    GaussianProcessSearch,
    LocalSearch,
    RegularizedEvolution,
    Stratified,
    Told,
)
from search.strategies.entropy import EFFECTIVENESS, van_der_corput
from search.strategies.gp import MOST_GENES, chebyshev
from search.strategies.nsga3 import associated, by_niche, directions, normalised
from space.architecture import Architecture, BytesInterface
from space.costs import costs
from space.sampling import enumerate_space, neighbours, sample
from space.search_space import SearchSpace, load_preset

KEYS = ("bits_per_byte", "error")


@cache
def space(**changes: object) -> SearchSpace:
    interface = BytesInterface(context_length=32, outputs=256)
    return load_preset("decoder-small").with_domains(dict(changes)).for_interface(interface)


def told(count: int, where: SearchSpace) -> list[Told]:
    rng = random.Random(0)
    return [Told(k, sample(where, rng), (rng.random(), rng.random())) for k in range(count)]


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_reference_directions_are_distinct_points_of_the_simplex(objectives: int) -> None:
    lines = directions(objectives)
    assert len({tuple(row) for row in lines.tolist()}) == len(lines)
    np.testing.assert_allclose(lines.sum(axis=1), 1.0)


def test_niching_fills_empty_directions_before_crowded_ones() -> None:
    kept = [(0.0, 1.0), (1.0, 0.0)]
    level = [(0.001, 0.999), (0.5, 0.5), (0.999, 0.001)]
    assert by_niche(kept, level, 1) == [1]
    assert by_niche(kept, level, 3) == [0, 1, 2]


def test_points_are_scaled_by_the_plane_through_the_extremes() -> None:
    points = np.array([[1.0, 10.0], [3.0, 6.0], [2.0, 7.0]])
    np.testing.assert_allclose(normalised(points), [[0.0, 1.0], [1.0, 0.0], [0.5, 0.25]])
    niche, distance = associated(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0], [0.5, 0.5]]))
    assert niche[0] == 1
    assert distance[0] == pytest.approx(0.0, abs=1e-6)


def test_what_is_old_leaves_the_queue_however_good_it_was() -> None:
    where = space()
    history = told(60, where)
    history[0] = Told(0, history[0].architecture, (-1.0, -1.0))
    strategy = RegularizedEvolution(where, 0, KEYS, queue=20)
    parents = {strategy.ask(number, history, []).parents[0] for number in range(60, 90)}
    assert min(parents) >= 40


def test_stratified_samples_spread_over_size() -> None:
    where = space()
    strategy, history = Stratified(where, 0), list[Told]()
    for number in range(20):
        history.append(Told(number, strategy.ask(number, history, []).architecture, (0.0, 0.0)))
    rng = random.Random(0)
    plain = strategy.strata([sample(where, rng) for _ in range(20)])
    spread = strategy.strata([one.architecture for one in history])
    assert np.bincount(spread, minlength=10).std() < 0.8 * np.bincount(plain, minlength=10).std()


def test_local_search_moves_by_one_gene_from_the_front() -> None:
    where = space(mixer=("softmax", "pool"))
    history = told(20, where)
    proposal = LocalSearch(where, 0, KEYS).ask(20, history, [])
    parent = next(one for one in history if one.number == proposal.parents[0])
    assert proposal.architecture.id in {one.id for one in neighbours(where, parent.architecture)}


def test_entropy_seeds_have_the_largest_entropy_of_all_architectures_of_their_size() -> None:
    names = {gene.key: gene.options[0] for gene in space().genes()}
    where = space(**{**names, "d_model": (32, 64), "num_layers": (1, 2, 3), "ff_ratio": (1, 2, 4)})
    everything = enumerate_space(where, 1000)
    score = {one.id: EntropyMad().value(one) for one in everything}
    size = {one.id: costs(one).params for one in everything}
    effective = {id_ for id_, found in score.items() if found.detail["effectiveness"] <= EFFECTIVENESS}
    for seed in Entropy(where, 0, KEYS)._seeds:
        affordable = {id_ for id_, params in size.items() if params <= size[seed.id]}
        rivals = affordable & effective or affordable
        assert score[seed.id].value == pytest.approx(max(score[id_].value for id_ in rivals))


def test_entropy_seeds_come_first_each_once() -> None:
    where = space(mixer=("softmax",), d_model=(32, 64, 128), num_layers=(1, 2))
    strategy, found = Entropy(where, 0, KEYS), list[Architecture]()
    while (proposal := strategy.ask(len(found), [], found)).origin == "start":
        found.append(proposal.architecture)
    assert len({one.id for one in found}) == len(found) > 3


def test_every_prefix_of_the_budgets_is_spread_out() -> None:
    assert [van_der_corput(index) for index in range(5)] == [0.0, 0.5, 0.25, 0.75, 0.125]


def test_scalarisation_prefers_what_dominates() -> None:
    vectors = [(0.0, 0.0), (1.0, 0.5), (0.5, 1.0), (1.0, 1.0)]
    for seed in range(5):
        values = [value for (value,) in chebyshev(vectors, random.Random(seed))]
        assert min(values) == values[0]
        assert max(values) == values[3]


def test_the_gaussian_process_sees_few_genes_and_reads_what_most_layers_have() -> None:
    where = load_preset("decoder-full").for_interface(BytesInterface(context_length=32, outputs=256))
    strategy = GaussianProcessSearch(where, 0, KEYS)
    assert len(strategy._genes) == MOST_GENES
    small = space(mixer=("softmax", "pool"), num_layers=(3,))
    mixers = {f"layer{index}.mixer": kind for index, kind in enumerate(("pool", "softmax", "pool"))}
    found = GaussianProcessSearch(small, 0, KEYS)._indices(small.decode(mixers))
    assert found["mixer"] == list(small.domains.options("mixer")).index("pool")


def test_products_of_directions_cover_every_corner() -> None:
    corners = [row for row in itertools.product((0.0, 1.0), repeat=3) if sum(row) == 1]
    assert {tuple(row) for row in directions(3).tolist()} >= set(corners)
