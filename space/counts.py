"""Repair of layers so that rules with a count are kept, and of layers that cannot stand alone."""

from collections.abc import Callable, Iterator, Sequence

from .definition import SpaceDefinition
from .feedforward import FEED_FORWARDS
from .gene import Value
from .genes import MIXER_GENES
from .layer_options import Levels
from .mixers import MIXERS
from .rules import Rule, breaches

Kinds = Callable[[Levels], tuple[str, str]]
"""Layer genes -> the canonical mixer and feed-forward."""


def stands(level: Levels) -> bool:
    """The layer has a feed-forward, or a mixer that needs none."""
    present = FEED_FORWARDS[str(level["feed_forward"])].is_present
    return present or MIXERS[str(level["mixer"])].own_nonlinearity


def keep_counts(
    definition: SpaceDefinition, blocks: dict[int, dict[str, Value]], owners: Sequence[int], kinds: Kinds
) -> bool:
    """Changes as few blocks as it can, from the last one on, until every rule with a count holds; True then.

    A change is made only when it brings one rule nearer and takes no other away.
    """
    rules = [rule for rule in definition.rules if rule.is_count]
    if not rules:
        return True

    def misses(changed: dict[int, dict[str, Value]]) -> list[int]:
        stack = [kinds(changed[owner]) for owner in owners]
        return [abs(breaches(rule, stack)) for rule in rules]

    now = misses(blocks)
    while any(now):
        for index, level in _changes(definition, blocks, owners, rules):
            changed = {**blocks, index: level}
            then = misses(changed)
            if sum(then) < sum(now) and all(b <= a for a, b in zip(now, then, strict=True)):
                blocks[index], now = level, then
                break
        else:
            return False
    return True


def _changes(
    definition: SpaceDefinition,
    blocks: dict[int, dict[str, Value]],
    owners: Sequence[int],
    rules: Sequence[Rule],
) -> Iterator[tuple[int, dict[str, Value]]]:
    """Blocks with another value of a counted gene: alone, with the mixer's own genes at their default, or
    with a mixer that needs no feed-forward.
    """
    genes = list(dict.fromkeys(rule.domains[0][0] for rule in rules))
    for index in sorted(blocks, reverse=True):
        there = definition.domains_at(index, len(owners))
        plain = {
            key: there.default(key)
            for key in blocks[index]
            if key in MIXER_GENES and key != "mixer" and key not in definition.shared
        }
        alone: list[Value] = [
            kind for kind in there.mixer if MIXERS[kind].own_nonlinearity and "mixer" not in definition.shared
        ]
        for gene in genes:
            for value in there.of(gene) if gene not in definition.shared else ():
                level = {**blocks[index], gene: value}
                besides: list[dict[str, Value]] = [{}, plain, *({"mixer": kind} for kind in alone)]
                for more in besides:
                    if stands(one := {**level, **more, gene: value}):
                        yield index, one
