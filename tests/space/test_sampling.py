"""Sampling, mutation, crossover and neighbours stay in the space and reach what they should."""

import random
from collections import Counter
from itertools import islice, pairwise
from typing import Any

import pytest

from space.architecture import Architecture, BytesInterface, ImageInterface, InterfaceConfig, canonicalise
from space.costs import costs
from space.model import build_model
from space.sampling import (
    PATTERNS,
    crossover,
    enumerate_space,
    homogeneous_family,
    lay_out,
    mutate,
    neighbours,
    sample,
)
from space.search_space import SearchSpace, load_preset

TEXT = BytesInterface(context_length=64, outputs=256)
SEQUENCE = BytesInterface(context_length=64, outputs=5)
IMAGE = ImageInterface(height=8, width=8, patch_size=2, outputs=10)


def _space(preset: str, interface: InterfaceConfig, **changes: Any) -> SearchSpace:
    return load_preset(preset).with_domains(changes).for_interface(interface)


SPACES = {
    "decoder": _space("decoder-small", TEXT),
    "any": _space("decoder-small", TEXT, position=["none", "alibi"], placement=["pre", "post"], shared=[]),
    "encoder": _space("encoder-small", SEQUENCE, position=["none", "rope", "alibi"]),
    "vision": _space("vision-small", IMAGE),
}
TINY = _space(
    "decoder-small", TEXT, num_layers=[1, 2], d_model=[32], mixer=["softmax", "pool"], head_width=8,
    kv_heads="full", position="rope", pool_width=3, feed_forward="mlp", activation="relu", ff_ratio=[1, 2],
    norm="rmsnorm",
    residual="serial", number_format="fp32",
)  # fmt: skip


def _members(space: SearchSpace, *architectures: Architecture) -> bool:
    return all(space.contains(one) and canonicalise(one).id == one.id for one in architectures)


@pytest.mark.parametrize("name", SPACES)
def test_everything_drawn_is_a_canonical_member(name: str) -> None:
    space, rng = SPACES[name], random.Random(0)
    parents = [sample(space, rng) for _ in range(12)]
    assert _members(space, *parents)
    assert _members(space, *(mutate(space, parent, rng, rate=rng.choice([1.0, 5.0])) for parent in parents))
    pairs = pairwise(parents)
    assert _members(space, *(crossover(space, a, b, rng) for a, b in pairs))
    assert _members(space, *neighbours(space, parents[0])[:30])
    assert _members(space, *islice(homogeneous_family(space), 12))


@pytest.mark.parametrize("name", SPACES)
def test_f43_what_is_drawn_can_be_built_and_costs_what_is_counted(name: str) -> None:
    space, rng = SPACES[name], random.Random(8)
    for _ in range(5):
        architecture = sample(space, rng)
        model = build_model(architecture, seed=0)
        assert sum(weight.numel() for weight in model.parameters()) == costs(architecture).params


@pytest.mark.parametrize("name", SPACES)
def test_draws_are_functions_of_the_generator(name: str) -> None:
    space = SPACES[name]

    def drawn() -> list[str]:
        rng = random.Random(7)
        a, b = sample(space, rng), sample(space, rng)
        return [one.id for one in (a, b, mutate(space, a, rng), crossover(space, a, b, rng))]

    assert drawn() == drawn()


def test_samples_reach_every_option_and_keep_homogeneous_stacks_common() -> None:
    space, rng = SPACES["decoder"], random.Random(1)
    drawn = [sample(space, rng) for _ in range(400)]
    assert {len(one.layers) for one in drawn} == set(space.domains.num_layers)
    assert {one.d_model for one in drawn} == set(space.domains.d_model)
    assert {layer.mixer.kind for one in drawn for layer in one.layers} == set(space.domains.mixer)
    assert {layer.number_format for one in drawn for layer in one.layers} == set(space.domains.number_format)
    deep = [one for one in drawn if len(one.layers) == 4]
    kinds = Counter(len({layer.mixer.kind for layer in one.layers}) for one in deep)
    assert kinds[1] > 0.2 * len(deep)  # independent draws of 5 mixers would give 1/125
    assert kinds[2] + kinds[3] + kinds[4] > 0.3 * len(deep)
    assert len({one.id for one in drawn}) > 390


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_pattern_has_one_entry_per_layer(pattern: str, depth: int) -> None:
    assert len(lay_out(pattern, depth, random.Random(0))) == depth


@pytest.mark.parametrize("name", SPACES)
def test_the_homogeneous_family_is_homogeneous_distinct_and_spread_from_the_first(name: str) -> None:
    space = SPACES[name]
    family = list(homogeneous_family(space))
    assert len({one.id for one in family}) == len(family)
    assert all(len(set(one.layers)) == 1 for one in family)
    num_mixers = len(space.domains.mixer)
    first = family[:num_mixers]
    assert len({one.layers[0].mixer.kind for one in first}) >= num_mixers - 1  # a wide window is softmax
    assert len({(len(one.layers), one.d_model) for one in first}) == num_mixers
    early = family[: 2 * num_mixers]
    assert len({one.layers[0].feed_forward.kind for one in early}) == 2
    assert len({one.layers[0].number_format for one in early}) >= 2
    sizes = {(depth, width) for depth in space.domains.num_layers for width in space.domains.d_model}
    assert {(len(one.layers), one.d_model) for one in family} == sizes


def test_a_mutation_differs_from_its_parent_and_is_mostly_small() -> None:
    space, rng = SPACES["decoder"], random.Random(2)
    changed = []
    for _ in range(60):
        parent = sample(space, rng)
        child = mutate(space, parent, rng)
        assert child.id != parent.id
        if len(child.layers) == len(parent.layers):
            before, after = space.encode(parent), space.encode(child)
            changed.append(sum(before[gene.name] != after[gene.name] for gene in space.active_genes(after)))
    assert sorted(changed)[len(changed) // 2] <= 3


def test_a_greater_rate_changes_more() -> None:
    space = SPACES["decoder"]

    def mean_changes(rate: float) -> float:
        rng, total = random.Random(3), 0
        for _ in range(40):
            parent = sample(space, rng)
            before, after = space.encode(parent), space.encode(mutate(space, parent, rng, rate=rate))
            total += sum(before[name] != after[name] for name in before)
        return total / 40

    assert mean_changes(6.0) > 2 * mean_changes(1.0)


def test_depth_changes_by_one_and_keeps_the_other_layers() -> None:
    space, rng = SPACES["decoder"], random.Random(4)
    parent = space.decode(
        {"num_layers": 3, "layer0.mixer": "pool", "layer1.mixer": "softmax", "layer2.mixer": "linear_elu"}
    )
    depths = Counter(len(mutate(space, parent, rng).layers) for _ in range(200))
    assert set(depths) == {2, 3, 4}
    assert (
        20 <= depths[2] + depths[4] <= 70
    )  # 200 draws at probability 0.2: 40, 5 standard deviations each side
    shorter = next(one for one in iter(lambda: mutate(space, parent, rng), None) if len(one.layers) == 2)
    order = [layer.mixer.kind for layer in parent.layers]
    positions = [order.index(layer.mixer.kind) for layer in shorter.layers if layer.mixer.kind in order]
    assert positions == sorted(positions)


def test_children_take_layers_and_model_genes_from_their_parents() -> None:
    space, rng = SPACES["decoder"], random.Random(5)
    a = space.decode({"num_layers": 2, "d_model": 64, "layer0.mixer": "pool", "layer1.mixer": "pool"})
    b = space.decode({"num_layers": 4, "d_model": 64, **{f"layer{i}.mixer": "softmax" for i in range(4)}})
    children = [crossover(space, a, b, rng) for _ in range(60)]
    assert {len(child.layers) for child in children} == {2, 4}
    layers = set(a.layers) | set(b.layers)
    assert all(set(child.layers) <= layers for child in children)
    assert len({child.id for child in children}) > 5


def test_neighbours_of_a_tiny_space_are_all_one_gene_moves() -> None:
    start = TINY.decode({"num_layers": 1, "layer0.mixer": "softmax", "layer0.ff_ratio": 1.0})
    around = neighbours(TINY, start)
    assert len({one.id for one in around}) == len(around)
    shapes = {
        (
            len(one.layers),
            tuple((layer.mixer.kind, layer.feed_forward.model_dump()["d_ff"]) for layer in one.layers),
        )
        for one in around
    }
    assert shapes == {
        (1, (("pool", 32),)),
        (1, (("softmax", 64),)),
        (2, (("softmax", 32), ("softmax", 32))),
    }


@pytest.mark.parametrize("preset", ["decoder-full", "encoder-full", "vision-full"])
def test_the_first_architectures_of_a_huge_space_come_without_listing_its_layers(preset: str) -> None:
    interfaces: dict[str, InterfaceConfig] = {
        "decoder-full": TEXT, "encoder-full": SEQUENCE, "vision-full": IMAGE,
    }  # fmt: skip
    # the product of all domains of one layer has more than 10^11 settings here: only a lazy one ends
    space = _space(preset, interfaces[preset], num_layers=[3, 4])
    first = enumerate_space(space, 5)
    assert len({one.id for one in first}) == 5
    assert [one.id for one in first] == [one.id for one in enumerate_space(space, 6)][:5]
    assert all(space.contains(one) for one in first[:1])


def test_a_walk_over_neighbours_reaches_the_whole_space() -> None:
    everything = {one.id for one in enumerate_space(TINY, 1000)}
    assert len(everything) == TINY.size()
    reached: dict[str, Architecture] = {}
    frontier = [TINY.decode({})]
    while frontier:
        one = frontier.pop()
        if one.id not in reached:
            reached[one.id] = one
            frontier.extend(neighbours(TINY, one))
    assert set(reached) == everything


def test_a_space_of_one_architecture_mutates_to_itself() -> None:
    alone = TINY.with_domains({"num_layers": 1, "mixer": "pool", "ff_ratio": 1, "position": "rope"})
    only = alone.decode({})
    assert alone.size() == 1
    assert mutate(alone, only, random.Random(0)).id == only.id
    assert neighbours(alone, only) == []


def test_parents_from_outside_the_space_have_children_inside() -> None:
    space, rng = SPACES["decoder"], random.Random(6)
    outsider = _space("decoder-small", TEXT, d_model=256, num_layers=6, position="learned").decode({})
    assert not space.contains(outsider)
    assert _members(space, mutate(space, outsider, rng), crossover(space, outsider, sample(space, rng), rng))
