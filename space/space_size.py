"""How many distinct architectures a space has, exactly and without listing them.

A stack is a member when some assignment of the shared genes ("world") allows every one of its layers.
Number the worlds of one depth, width and interface; every mixer has the set of worlds that allow it, as a
bit mask, and so has every feed-forward; a stack's worlds are the AND of its layers' masks. The count runs
over the layers with the reachable (ANDs, what the stack reads, whether it sees order, the counts that
rules limit) as state, so its cost grows with the number of states and not with the space. Layers that share
weights are one; genes that stand alone multiply.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .architecture import canonical_sharing
from .definition import SpaceDefinition
from .genes import Domains
from .genotypes import settle, sharing_config
from .layer_options import World, feed_forward_worlds, mixer_worlds
from .rules import Rule, counts_kind, missed, selected

_ALONE = ("norm", "placement", "number_format")
"""Block genes that no other gene looks at; `residual` means nothing in a layer without feed-forward."""


@dataclass(frozen=True, slots=True)
class _State:
    """Of the layers so far."""

    mixers: int
    feed_forwards: int
    reads: frozenset[str] = frozenset()
    order_aware: bool = False
    has_feed_forward: bool = False
    counts: tuple[int, ...] = ()
    """For every rule with a count the layers that it counts."""


def count(definition: SpaceDefinition) -> int:
    """Number of distinct canonical architectures."""
    domains = definition.domains
    sizes = domains.patch_size if definition.model == "vision" else (1,)
    ends = [(0, len(definition.plain_poolings)), (1, len(domains.pooling) - len(definition.plain_poolings))]
    if definition.model == "decoder":
        ends = [(0, len(domains.tied))]
    once = math.prod(len(domains.of(key)) for key in _ALONE if key in definition.shared)
    total = sum(
        heads
        * _tables(definition, d_model)
        * _stacks(definition, patch_size, d_model, depth, owners, class_tokens)
        for class_tokens, heads in ends
        if heads
        for patch_size in sizes
        for d_model in domains.d_model
        for depth in domains.num_layers
        for owners in _sharings(definition, depth)
    )
    return len(domains.rank_ratio) * once * total


def _tables(definition: SpaceDefinition, d_model: int) -> int:
    """How many forms the embedding has in models of this width."""
    return len({definition.embedding_width(width, d_model) for width in definition.domains.embedding_width})


def _sharings(definition: SpaceDefinition, depth: int) -> list[tuple[int, ...]]:
    """The owners of the layers under every distinct sharing."""
    found = {
        canonical_sharing(sharing_config(value, private_norm), depth)
        for value in definition.domains.sharing
        for private_norm in definition.domains.private_norm
    }
    return [sharing.owners(depth) for sharing in sorted(found, key=lambda s: s.model_dump_json())]


def _stacks(
    definition: SpaceDefinition,
    patch_size: int,
    d_model: int,
    depth: int,
    owners: tuple[int, ...],
    class_tokens: int,
) -> int:
    """Distinct stacks of layers with their final positions."""
    behind: tuple[str, ...] = ()
    states: Counter[_State] | None = None
    rules = [rule for rule in definition.rules if rule.is_count]
    for layer in range(depth):
        if owners[layer] != layer:
            continue
        there = definition.domains_at(layer, depth)
        behind, num_fed, layers = _layer_kinds(definition, there, d_model, patch_size, class_tokens)
        if states is None:
            worlds, fed = (1 << len(behind)) - 1, (1 << num_fed) - 1
            states = Counter({_State(worlds, fed, counts=(0,) * len(rules)): 1})
        places = [sum(owners[i] == layer for i in selected(rule.layers, depth)) for rule in rules]
        states = _grown(states, layers, list(zip(rules, places, strict=True)))
    assert states is not None
    once = len(definition.domains.residual) if "residual" in definition.shared else 1
    return sum(
        ways * _final_positions(definition, behind, state) * (once if state.has_feed_forward else 1)
        for state, ways in states.items()
        if not any(missed(rule, count, depth) for rule, count in zip(rules, state.counts, strict=True))
    )


_Layer = tuple[int, int, frozenset[str], bool, bool, str, str]


@lru_cache(maxsize=256)
def _layer_kinds(
    definition: SpaceDefinition, there: Domains, d_model: int, patch_size: int, class_tokens: int
) -> tuple[tuple[str, ...], int, Counter[_Layer]]:
    """Position genes behind the numbered worlds, how many worlds feed-forwards have, what a layer can be."""
    interface = definition.interface_with(patch_size)
    behind: list[str] = []
    worlds: list[World] = []
    for position in definition.domains.position:
        at = definition.site(d_model, interface, position, class_tokens=class_tokens)
        for world in mixer_worlds(definition.domains, there, definition.shared, at):
            behind.append(position)
            worlds.append(world)
    fed = feed_forward_worlds(
        definition.domains, there, definition.shared, definition.site(d_model, interface, behind[0])
    )
    counted = any(rule.is_count for rule in definition.rules)
    mixers = Counter[tuple[int, frozenset[str], bool, bool, str]]()
    for mixer, (mask, weight) in _masks(worlds).items():
        if mixer.reads_grid and class_tokens and definition.model == "vision":
            continue
        kind = mixer.kind if counted else ""
        mixers[mask, mixer.positions, mixer.order_aware, mixer.own_nonlinearity, kind] += weight
    feed_forwards = Counter[tuple[int, bool, str]]()
    for choice, (mask, weight) in _masks(fed).items():
        feed_forwards[mask, choice.is_present, choice.kind if counted else ""] += weight
    ways = math.prod(len(there.of(key)) for key in _ALONE if key not in definition.shared)
    residuals = 1 if "residual" in definition.shared else len(there.residual)
    layers = Counter[_Layer]()
    for (mask, reads, aware, stands_alone, kind), members in mixers.items():
        for (fed_mask, present, fed_kind), fed_members in feed_forwards.items():
            if present or stands_alone:
                number = members * fed_members * ways * (residuals if present else 1)
                layers[mask, fed_mask, reads, aware, present, kind, fed_kind] += number
    return tuple(behind), len(fed), layers


def _grown(
    states: Counter[_State], layers: Counter[_Layer], rules: Sequence[tuple[Rule, int]]
) -> Counter[_State]:
    """With one more distinct layer, which stands at so many places that each rule counts."""
    grown: Counter[_State] = Counter()
    for state, ways in states.items():
        for (mask, fed_mask, reads, aware, present, kind, fed_kind), members in layers.items():
            mixers, feed_forwards = state.mixers & mask, state.feed_forwards & fed_mask
            if mixers and feed_forwards:
                counts = tuple(
                    count + places * counts_kind(rule, kind, fed_kind)
                    for count, (rule, places) in zip(state.counts, rules, strict=True)
                )
                after = _State(
                    mixers,
                    feed_forwards,
                    state.reads | reads,
                    state.order_aware or aware,
                    state.has_feed_forward or present,
                    counts,
                )
                grown[after] += ways * members
    return grown


def _final_positions(definition: SpaceDefinition, behind: Sequence[str], state: _State) -> int:
    """With how many positions a stack of this state is a member."""
    finals = set()
    for index, position in enumerate(behind):
        if state.mixers >> index & 1:
            final = settle(definition, position, state.reads, order_aware=state.order_aware)
            if final in (position, "none"):  # a replaced position is counted in the worlds of its replacement
                finals.add(final)
    parts = len(definition.domains.rotary_pct)
    return sum(parts if final == "rope" else 1 for final in finals)


def _masks(worlds: Collection[World]) -> dict[Any, tuple[int, int]]:
    """Config -> (worlds that have it, how many configs it stands for)."""
    masks: dict[Any, tuple[int, int]] = {}
    for index, world in enumerate(worlds):
        for config in world.options:
            mask, weight = masks.get(config, (0, world.weight(config)))
            masks[config] = (mask | 1 << index, weight)
    return masks
