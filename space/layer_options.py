"""From genes to the configs of one layer: snapping to legal values, and the table of all options of a layer.

A width that does not divide d_model snaps to the nearest legal one (in ratio); ALiBi gets the 4 heads it
needs. The hidden width of a feed-forward is a multiple of 8:

    ordinary:  d_ff = 8 round(ratio d / 8)          gated:  d_ff = 8 round((2/3) ratio d / 8)

Source: choices.md 6.3 (equal parameters), 14 (validity); evaluators_and_search.md 12.2 (repair).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import Any, Literal

from .choice import FeedForwardChoice, MixerChoice, Surroundings
from .feedforward import FEED_FORWARDS
from .gene import Value
from .genes import BLOCK_GENES, FEED_FORWARD_GENES, MIXER_GENES, OWN_GENES, Domains, own_genes
from .mixers import MIXERS

MIN_HEADS_ALIBI = 4
Levels = Mapping[str, Value]
"""Layer gene -> value, for one layer."""


@dataclass(frozen=True, slots=True)
class World:
    """One assignment of the shared genes; every config a layer can then have, with the genes that give it.

    Configs that differ in independent genes only stand as one: the one with these fields at their default.
    """

    shared: Levels
    options: Mapping[Any, Levels]
    free: Mapping[str, tuple[Value, ...]]
    """Independent genes that are not shared, with their domains."""

    def levels(self, config: MixerChoice | FeedForwardChoice) -> Levels | None:
        """The genes of a config; None: no layer of this world has it."""
        found = self.options.get(_plain(config, self.free))
        if found is None:
            return None
        own = {
            gene.name: getattr(config, field)
            for field, gene in config.genes.items()
            if gene.name in self.free
        }
        if any(value not in self.free[name] for name, value in own.items()):
            return None
        return {**found, **own, **self.shared}

    def weight(self, plain: MixerChoice | FeedForwardChoice) -> int:
        """How many configs one of `options` stands for."""
        return math.prod(len(self.free[gene.name]) for gene in plain.genes.values() if gene.name in self.free)


def mixer_config(levels: Levels, at: Surroundings) -> MixerChoice:
    """The canonical mixer of these genes there."""
    kind = MIXERS[str(levels["mixer"])]
    values: dict[str, Any] = {}
    reads_own_width = any(gene.name == "own_head_width" for gene in kind.genes.values())
    own_width = reads_own_width and int(levels.get("own_head_width", 0)) > 0
    for field, gene in kind.genes.items():
        level = levels.get(gene.name, gene.default[0])
        if gene.name == "head_width":
            values[field] = _num_heads(int(level), int(levels.get("heads", 0)), own_width, kind, at)
        elif gene.name == "kv_heads":
            values[field] = _num_kv_heads(str(level), values["num_heads"])
        else:
            values[field] = level
    return _mixer(kind, tuple(kind.snapped(values, at).items()), at)


@lru_cache(maxsize=65_536)
def _mixer(kind: type[MixerChoice], values: tuple[tuple[str, Any], ...], at: Surroundings) -> MixerChoice:
    """Equal mixers are one object."""
    return kind.model_validate(dict(values)).canonical(at)


def feed_forward_config(levels: Levels, at: Surroundings) -> FeedForwardChoice:
    """The canonical feed-forward of these genes there."""
    kind = FEED_FORWARDS[str(levels["feed_forward"])]
    values: dict[str, Any] = {}
    for field, gene in kind.genes.items():
        level = levels.get(gene.name, gene.default[0])
        values[field] = (
            hidden_width(kind.width_factor, float(level), at.d_model) if gene.name == "ff_ratio" else level
        )
    return _feed_forward(kind, tuple(kind.snapped(values, at).items()), at)


@lru_cache(maxsize=65_536)
def _feed_forward(
    kind: type[FeedForwardChoice], values: tuple[tuple[str, Any], ...], at: Surroundings
) -> FeedForwardChoice:
    """Equal feed-forwards are one object."""
    return kind.model_validate(dict(values)).canonical(at)


def hidden_width(factor: Fraction, ratio: float, d_model: int) -> int:
    """d_ff of a feed-forward with the parameters of an ordinary one of `ratio` times d_model.

    >>> hidden_width(Fraction(2, 3), 4.0, 64), hidden_width(Fraction(1), 4.0, 64)
    (168, 256)
    """
    wanted = ratio * d_model * float(factor)
    return max(8, 8 * math.floor(wanted / 8 + 0.5))


def active_mixer_genes(kind: str) -> tuple[str, ...]:
    """The genes a mixer reads, `mixer` itself first."""
    return ("mixer", *(gene.name for gene in own_genes(MIXERS[kind])))


def active_feed_forward_genes(kind: str) -> tuple[str, ...]:
    """The genes a feed-forward reads, `feed_forward` itself first."""
    return ("feed_forward", *(gene.name for gene in own_genes(FEED_FORWARDS[kind])))


def active_layer_genes(mixer: str, feed_forward: str) -> frozenset[str]:
    """The layer genes that matter in a layer with these two."""
    return frozenset((*active_mixer_genes(mixer), *active_feed_forward_genes(feed_forward), *BLOCK_GENES))


def legal_head_counts(d_model: int, *, least_heads: int = 1) -> tuple[int, ...]:
    """Head counts whose heads are even and at least 8 wide, or, where there are none, those of even width."""
    divisors = [h for h in range(least_heads, d_model // 2 + 1) if d_model % h == 0 and d_model // h % 2 == 0]
    return tuple(h for h in divisors if d_model // h >= 8) or tuple(divisors[:1])


@lru_cache(maxsize=512)
def mixer_worlds(
    domains: Domains, there: Domains, shared: tuple[str, ...], at: Surroundings
) -> tuple[World, ...]:
    """Every assignment of the shared mixer genes with the mixers that a layer can then have whose rules leave
    it the domains `there`.
    """
    return _worlds(domains, there, shared, at, "mixer")


@lru_cache(maxsize=512)
def feed_forward_worlds(
    domains: Domains, there: Domains, shared: tuple[str, ...], at: Surroundings
) -> tuple[World, ...]:
    """The same of feed-forwards."""
    return _worlds(domains, there, shared, at, "feed_forward")


def _worlds(
    domains: Domains,
    there: Domains,
    shared: tuple[str, ...],
    at: Surroundings,
    family: Literal["mixer", "feed_forward"],
) -> tuple[World, ...]:
    """Numbered alike in every layer: by the space's domains, whatever a layer's rules leave of them."""
    genes = MIXER_GENES if family == "mixer" else FEED_FORWARD_GENES
    free = {
        name: there.of(name)
        for name in genes
        if name in OWN_GENES and OWN_GENES[name].independent and name not in shared
    }
    return tuple(
        World(fixed, _table(there, fixed, at, family, free), free)
        for fixed in _assignments(domains, shared, family)
    )


def _table(
    domains: Domains,
    fixed: Levels,
    at: Surroundings,
    family: Literal["mixer", "feed_forward"],
    free: Mapping[str, tuple[Value, ...]],
) -> dict[Any, Levels]:
    active = active_mixer_genes if family == "mixer" else active_feed_forward_genes
    config = mixer_config if family == "mixer" else feed_forward_config
    table: dict[Any, Levels] = {}
    for kind in (fixed[family],) if family in fixed else domains.of(family):
        known = {**{name: values[0] for name, values in free.items()}, **fixed, family: kind}
        for levels in _free(domains, known, active(str(kind))):
            table.setdefault(_plain(config(levels, at), free), levels)
    return table


def _plain(config: MixerChoice | FeedForwardChoice, free: Mapping[str, object]) -> Any:
    """The config with its independent fields at their default."""
    changed = {
        field: type(config).model_fields[field].default
        for field, gene in config.genes.items()
        if gene.name in free
    }
    return config.model_copy(update=changed) if changed else config


def _assignments(
    domains: Domains, shared: tuple[str, ...], family: Literal["mixer", "feed_forward"]
) -> Iterator[Levels]:
    """Every assignment of the shared genes that some kind reads; with a shared kind, those that it reads."""
    active = active_mixer_genes if family == "mixer" else active_feed_forward_genes
    groups: list[tuple[Any, ...]] = (
        [(kind,) for kind in domains.of(family)] if family in shared else [domains.of(family)]
    )
    for kinds in groups:
        read = dict.fromkeys(gene for kind in kinds for gene in active(str(kind)) if gene in shared)
        names = [gene for gene in read if gene != family]
        fixed: dict[str, Value] = {str(family): kinds[0]} if family in shared else {}
        for values in product(*(domains.of(gene) for gene in names)):
            yield {**fixed, **dict(zip(names, values, strict=True))}


def _free(domains: Domains, fixed: Levels, genes: tuple[str, ...]) -> Iterator[dict[str, Value]]:
    """Every assignment of `genes` that agrees with the fixed ones."""
    for values in product(*((fixed[gene],) if gene in fixed else domains.of(gene) for gene in genes)):
        yield dict(zip(genes, values, strict=True))


@lru_cache(maxsize=4096)
def _num_heads(
    head_width: int, heads: int, own_width: bool, kind: type[MixerChoice], at: Surroundings
) -> int:
    """The nearest legal count to `heads`, or to what heads of this width give. Heads of a width of their own
    may be of any number.
    """
    least = MIN_HEADS_ALIBI if at.position.kind == "alibi" and "alibi" in kind.positions else 1
    if heads and own_width:
        return max(heads, least)
    counts = legal_head_counts(at.d_model, least_heads=least)
    wanted = heads or at.d_model / head_width
    return min(counts, key=lambda count: (abs(math.log(count / wanted)), count))


def _num_kv_heads(share: str, heads: int) -> int:
    if share == "full":
        return heads
    wanted = 1 if share == "one" else heads / 2
    return min((g for g in range(1, heads + 1) if heads % g == 0), key=lambda g: (abs(g - wanted), g))
