"""Repair of layers so that rules with a count are kept, and of layers that cannot stand alone."""

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

from .definition import SpaceDefinition
from .feedforward import FEED_FORWARDS
from .gene import Value
from .genes import MIXER_GENES, Domains
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
        for changed in _changes(definition, blocks, owners, rules):
            then = misses(changed)
            if sum(then) < sum(now) and all(b <= a for a, b in zip(now, then, strict=True)):
                blocks.update(changed)
                now = then
                break
        else:
            return False
    return True


def _changes(
    definition: SpaceDefinition,
    blocks: dict[int, dict[str, Value]],
    owners: Sequence[int],
    rules: Sequence[Rule],
) -> Iterator[dict[int, dict[str, Value]]]:
    """The blocks with another value of a counted gene in one of them, and with as little besides as lets
    every block stand and the value mean something; what all layers share changes in all of them.
    """
    genes = list(dict.fromkeys(rule.domains[0][0] for rule in rules))
    counted = [gene for gene in genes if gene not in definition.shared]
    at = {index: definition.domains_at(index, len(owners)) for index in sorted(blocks, reverse=True)}
    for ways in zip_longest(*(_besides(definition, at[index], blocks[index]) for index in at)):
        for (index, there), besides in zip(at.items(), ways, strict=True):
            if besides is None:
                continue
            for change in ({gene: value} for gene in counted for value in there.of(gene)):
                changed = _changed(definition, blocks, index, {**besides, **change})
                if all(map(stands, changed.values())):
                    yield changed


def _besides(definition: SpaceDefinition, there: Domains, block: dict[str, Value]) -> Iterator[Levels]:
    """Nothing; the mixer's own genes at their default; a mixer that needs no feed-forward; one gene of a
    mixer (a window that covers the context is softmax, a shorter one is not); a feed-forward with these.
    """
    plain = {
        key: there.default(key)
        for key in block
        if key in MIXER_GENES and key != "mixer" and key not in definition.shared
    }
    own = [gene for gene in MIXER_GENES if gene != "mixer"]
    ways: list[Levels] = [{}, plain]
    ways += [{"mixer": kind} for kind in there.mixer if MIXERS[str(kind)].own_nonlinearity]
    ways += [{**plain, gene: value} for gene in own for value in there.of(gene)]
    yield from ways
    for kind in there.feed_forward:
        if FEED_FORWARDS[str(kind)].is_present:
            yield from ({**way, "feed_forward": kind} for way in ways)


def _changed(
    definition: SpaceDefinition, blocks: dict[int, dict[str, Value]], index: int, changes: Levels
) -> dict[int, dict[str, Value]]:
    """The blocks with these changes in one of them, and in all of them where the gene is shared."""
    everywhere = {gene: value for gene, value in changes.items() if gene in definition.shared}
    changed = {other: {**level, **everywhere} for other, level in blocks.items()}
    changed[index] |= changes
    return changed
