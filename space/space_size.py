"""How many distinct architectures a space has, exactly and without listing them.

A stack is a member when some assignment of the shared genes ("world") allows every one of its layers.
Number the worlds of one depth, width and interface; every mixer has the set of worlds that allow it, as a
bit mask; a stack's worlds are the AND of its layers' masks. The count runs over the layers with the
reachable (AND, what the stack reads, whether it sees order) as state, so its cost grows with the number of
states and not with the space. Feed-forwards and block genes are independent of the mixers, so their counts
multiply.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from .definition import SpaceDefinition
from .genes import BLOCK_GENES
from .genotypes import settle
from .layer_options import World, feed_forward_worlds, mixer_worlds

_State = tuple[int, frozenset[str], bool]


def count(definition: SpaceDefinition) -> int:
    """Number of distinct canonical architectures."""
    domains = definition.domains
    sizes = domains.patch_size if definition.model == "vision" else (1,)
    heads = len(domains.tied) if definition.model == "decoder" else 1
    per_layer = _product(len(domains.of(key)) for key in BLOCK_GENES if key not in definition.shared)
    once = _product(len(domains.of(key)) for key in BLOCK_GENES if key in definition.shared)
    total = 0
    for patch_size in sizes:
        for d_model in domains.d_model:
            for depth in domains.num_layers:
                stacks = _mixer_stacks(definition, patch_size, d_model, depth)
                stacks *= _feed_forward_stacks(definition, d_model, depth)
                total += heads * once * per_layer**depth * stacks
    return total


def _mixer_stacks(definition: SpaceDefinition, patch_size: int, d_model: int, depth: int) -> int:
    """Distinct (final position, mixers of all layers)."""
    interface = definition.interface_with(patch_size)
    behind: list[str] = []  # the position gene of each numbered world
    worlds: list[World] = []
    for position in definition.domains.position:
        site = definition.site(d_model, interface, position)
        for world in mixer_worlds(definition.domains, definition.shared, site):
            behind.append(position)
            worlds.append(world)
    states: Counter[_State] = Counter({((1 << len(worlds)) - 1, frozenset(), False): 1})
    kinds = Counter((mask, m.positions, m.order_aware) for m, mask in _masks(worlds).items())
    for _ in range(depth):
        grown: Counter[_State] = Counter()
        for (mask, reads, order_aware), ways in states.items():
            for (allowed, read, aware), members in kinds.items():
                if mask & allowed:
                    grown[mask & allowed, reads | read, order_aware or aware] += ways * members
        states = grown
    return sum(ways * _final_positions(definition, behind, state) for state, ways in states.items())


def _final_positions(definition: SpaceDefinition, behind: Sequence[str], state: _State) -> int:
    """With how many positions a stack of this state is a member."""
    mask, reads, order_aware = state
    finals = set()
    for index, position in enumerate(behind):
        if mask >> index & 1:
            final = settle(definition, position, reads, order_aware=order_aware)
            if final in (position, "none"):  # a replaced position is counted in the worlds of its replacement
                finals.add(final)
    return len(finals)


def _feed_forward_stacks(definition: SpaceDefinition, d_model: int, depth: int) -> int:
    at = definition.site(d_model, definition.interface_with(1), "none")
    worlds = feed_forward_worlds(definition.domains, definition.shared, at)
    kinds = Counter(_masks(worlds).values())
    states = Counter({(1 << len(worlds)) - 1: 1})
    for _ in range(depth):
        grown: Counter[int] = Counter()
        for mask, ways in states.items():
            for allowed, members in kinds.items():
                if mask & allowed:
                    grown[mask & allowed] += ways * members
        states = grown
    return states.total()


def _masks(worlds: Collection[World]) -> dict[Any, int]:
    masks: dict[Any, int] = {}
    for index, world in enumerate(worlds):
        for config in world.options:
            masks[config] = masks.get(config, 0) | 1 << index
    return masks


def _product(factors: Iterable[int]) -> int:
    product = 1
    for factor in factors:
        product *= factor
    return product
