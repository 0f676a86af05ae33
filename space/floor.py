"""The least value that a closed-form cost has in a space, without listing the space.

    cost = ends + position + sum over layers (mixer + feed-forwards + norms)        (+ the activation peak)

A sum over layers is least where each of its terms is, so all layers with the same domains may be equal. Of a
mixer's or feed-forward's genes, those that make a number of heads are taken in every combination and each
other one alone: it adds to a cost or takes from it whatever the others are. The peak is a maximum over
layers: every value that some layer can have is tried as its bound.

Never too high, so that a limit below it cannot be kept. A little too low is possible in two cases: with
rules (what they count, and that different layers share a gene, is not looked at), and in stacks of two layers
or more that are lightest with the position another mixer would give them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any, get_args

from .architecture import Architecture, InterfaceConfig, LayerConfig, canonical_sharing
from .choice import FeedForwardChoice, MixerChoice, PositionChoice, Surroundings
from .costs import BYTES_PER_NUMBER, EndCosts, end_costs, feed_forward_costs, weight_bits
from .definition import SpaceDefinition
from .feedforward import FEED_FORWARDS
from .gene import Value
from .genes import Domains, own_genes
from .genotypes import decode, position_config, settle, sharing_config
from .layer_options import Levels, feed_forward_config, mixer_config
from .mixers import MIXERS
from .norms import NORMS
from .quantization import NumberFormat, number_format

_TOGETHER = ("head_width", "heads", "own_head_width", "kv_heads")
"""Genes that make a number of heads."""
_BITS = 8 * BYTES_PER_NUMBER
_COMPANIONS = 2
"""Other kinds of mixers that can decide a stack's position: one that reads it, one that sees order."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Layers with the same domains: how many have weights and norms of their own, and how many there are."""

    there: Domains
    weights: int
    norms: int
    layers: int
    is_all: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """Where layers stand, and what is counted there."""

    key: str
    at: Surroundings
    site: Surroundings
    """As far as configs depend on it."""
    tokens: int
    batch_size: int
    least_peak: int
    """That of the ends: no smaller peak of a layer counts."""
    kinds: tuple[str, ...]
    """The mixers that a stack with this position can have."""


@dataclass(frozen=True, slots=True)
class _Option:
    """What a group of layers, or a part of them, can cost: bits for bytes, and live numbers of a sequence."""

    cost: int
    peak: int
    stands_alone: bool = True
    """A mixer that needs no feed-forward; a feed-forward that is there."""


def least(definition: SpaceDefinition, key: str, batch_size: int = 1, tokens: int | None = None) -> int:
    """The least `params`, `macs`, `weights_bytes` or `memory_bytes` of the space."""
    best: int | None = None
    for at, interface, n, ends in _sites(definition, key, tokens):
        around = _around(key, ends, batch_size)
        if best is not None and around >= best:
            continue
        fed: dict[tuple[_Group, NumberFormat], list[_Option]] = {}
        for groups in _stackings(definition):
            for position in _positions(definition):
                kinds = _kinds(definition, position.kind, sum(group.layers for group in groups))
                here = replace(at, position=position)
                site = definition.site(
                    at.d_model, interface, position.kind, class_tokens=at.context_length - interface.tokens
                )
                place = _Place(key, here, site, n, batch_size, ends.peak, kinds)
                layers = _layers(place, groups, fed) if kinds else None
                found = None if layers is None else layers + around
                if found is not None and (best is None or found < best):
                    best = found
    assert best is not None, "a space has an architecture"
    return -(-best // 8) if key.endswith("bytes") else best


def _sites(
    definition: SpaceDefinition, key: str, tokens: int | None
) -> list[tuple[Surroundings, InterfaceConfig, int, EndCosts]]:
    """Every width, patch size and rank: tokens of a sequence and least ends there; the cheapest first."""
    domains = definition.domains
    last = [definition.domains_at(depth - 1, depth) for depth in domains.num_layers]
    norms = {kind for there in last for kind in there.norm}
    found = []
    sizes = domains.patch_size if definition.model == "vision" else (1,)
    for d_model, size in product(domains.d_model, sizes):
        model: dict[str, Value] = {"d_model": d_model}
        if definition.model != "decoder":  # a class token only adds
            model["pooling"] = (*definition.plain_poolings, *domains.pooling)[0]
        if definition.model == "vision":
            model["patch_size"] = size
        if definition.model == "decoder":
            model["tied"] = max(domains.tied)
        built = decode(definition, model)
        n = built.tokens if tokens is None else min(tokens, built.tokens)
        ends = _least_ends(definition, built, key, n)
        norm = min(NORMS[kind]().params(d_model) for kind in norms)
        ends = replace(ends, params=ends.params - built.final_norm.params(d_model) + norm)
        interface = built.interface
        for rank_ratio in domains.rank_ratio:
            at = replace(built.surroundings(), rank_ratio=rank_ratio)
            found.append((at, interface, n + built.class_tokens, ends))
    return sorted(found, key=lambda site: site[3].params + site[3].peak)


def _least_ends(definition: SpaceDefinition, built: Architecture, key: str, n: int) -> EndCosts:
    """Of a model like this with every head and table; their peaks are equal."""
    domains, found = definition.domains, []
    heads = [built.head]
    if definition.model == "decoder":
        heads = [definition.head(tied=tied) for tied in domains.tied]
    for head, value in product(heads, domains.embedding_width):
        width = definition.embedding_width(value, built.d_model)
        one = built.model_copy(update={"head": head, "embedding_width": width})
        found.append(end_costs(one, one.surroundings(), n))
    return min(found, key=lambda ends: ends.macs if key == "macs" else ends.params)


def _around(key: str, ends: EndCosts, batch_size: int) -> int:
    """The ends alone."""
    if key == "memory_bytes":
        return _BITS * (ends.params + batch_size * ends.peak)
    return {"params": ends.params, "macs": ends.macs}.get(key, _BITS * ends.params)


def _stackings(definition: SpaceDefinition) -> list[tuple[_Group, ...]]:
    """The groups of layers of every depth and sharing. Without rules a deeper stack only adds layers."""
    domains = definition.domains
    depths = domains.num_layers if definition.rules else (min(domains.num_layers),)
    found: dict[tuple[_Group, ...], None] = {}
    for depth, sharing, private in product(depths, domains.sharing, domains.private_norm):
        owners = canonical_sharing(sharing_config(sharing, private), depth).owners(depth)
        groups = []
        there = [definition.domains_at(owner, depth) for owner in owners]
        for one in dict.fromkeys(there):
            of_group = [owner for owner, domain in zip(owners, there, strict=True) if domain == one]
            weights, layers = len(set(of_group)), len(of_group)
            norms = layers if private else weights
            groups.append(_Group(one, weights, norms, layers, layers == depth))
        found[tuple(groups)] = None
    return list(found)


def _positions(definition: SpaceDefinition) -> list[PositionChoice]:
    kinds = dict.fromkeys((*definition.domains.position, "none"))
    return [position_config(kind, definition.domains.rotary_pct[0]) for kind in kinds]


def _kinds(definition: SpaceDefinition, position: str, depth: int) -> tuple[str, ...]:
    """The mixers that can stand in a stack which ends with this position."""
    mixers = definition.domains.mixer
    return tuple(
        kind
        for kind in mixers
        if any(
            position in _settled(definition, (kind, *others))
            for count in range(min(depth - 1, _COMPANIONS) + 1)
            for others in combinations(mixers, count)
        )
    )


def _settled(definition: SpaceDefinition, kinds: Iterable[str]) -> set[str | None]:
    """The positions that a stack of these mixers can end with."""
    mixers = [MIXERS[kind] for kind in kinds]
    reads = frozenset().union(*(mixer.positions for mixer in mixers))
    aware = any(mixer.order_aware for mixer in mixers)
    return {settle(definition, gene, reads, order_aware=aware) for gene in definition.domains.position}


def _layers(
    place: _Place, groups: Sequence[_Group], fed: dict[tuple[_Group, NumberFormat], list[_Option]]
) -> int | None:
    """The least cost of all layers and the position, and of a peak above that of the ends; None: there is no
    stack of these mixers. `fed`: what feed-forwards can cost here, whatever the position; filled as needed.
    """
    options = [_group_options(place, group, fed) for group in groups]
    if not all(options):
        return None
    position = place.at.position
    once = 0
    if not position.reads_mixers:
        once = position.params(place.at, ())
        once = 0 if place.key == "macs" else once if place.key == "params" else _BITS * once
    if place.key != "memory_bytes":
        return once + sum(min(option.cost for option in group) for group in options)
    totals = []
    for bound in sorted({option.peak for group in options for option in group}):
        allowed = [[option.cost for option in group if option.peak <= bound] for group in options]
        if all(allowed):
            above = bound - place.least_peak
            totals.append(sum(map(min, allowed)) + _BITS * place.batch_size * above)
    return once + min(totals)


def _group_options(
    place: _Place, group: _Group, fed: dict[tuple[_Group, NumberFormat], list[_Option]]
) -> list[_Option]:
    """What the layers of a group can cost: none is beaten in cost and peak."""
    # numbers of a format count for stored bytes only
    formats: list[NumberFormat] = [
        name for name in get_args(NumberFormat) if name in group.there.number_format
    ]
    if not place.key.endswith("bytes"):
        formats = formats[:1]
    found = []
    for form in formats:
        if (group, form) not in fed:
            fed[group, form] = _unbeaten(list(_feed_forwards(place, group, form)))
        mixers = _unbeaten(list(_mixers(place, group, form)))
        found += [
            _Option(mixer.cost + other.cost, max(mixer.peak, other.peak))
            for mixer, other in product(mixers, fed[group, form])
            if mixer.stands_alone or other.stands_alone
        ]
    return _unbeaten(found)


def _mixers(place: _Place, group: _Group, form: NumberFormat) -> Iterator[_Option]:
    position, at, n = place.at.position, place.at, place.tokens
    known: dict[MixerChoice, _Option] = {}

    def option(levels: Levels) -> _Option:
        mixer = mixer_config(levels, place.site).canonical(at)
        if mixer not in known:
            known[mixer] = counted(mixer)
        return known[mixer]

    def counted(mixer: MixerChoice) -> _Option:
        alone = mixer.own_nonlinearity
        if place.key == "macs":
            return _Option(group.layers * mixer.macs(at, n), 0, alone)
        shared = position.params(at, (mixer,)) if group.is_all and position.reads_mixers else 0
        if place.key == "params":
            return _Option(group.weights * mixer.params(at) + shared, 0, alone)
        cost = group.weights * weight_bits(mixer, at, number_format(form)) + _BITS * shared
        if place.key == "weights_bytes":
            return _Option(cost, 0, alone)
        state = mixer.state_size(at, n) if at.causal else 0
        cost += _BITS * place.batch_size * group.layers * state
        peak = n * at.d_model + mixer.activation_size(at, n)
        return _Option(cost, max(peak, place.least_peak), alone)

    for kind in group.there.mixer:
        if kind in place.kinds:
            names = [gene.name for gene in own_genes(MIXERS[kind])]
            yield from _options({"mixer": kind}, names, group.there, option)


def _feed_forwards(place: _Place, group: _Group, form: NumberFormat) -> Iterator[_Option]:
    """With the norms of the layer, whose number depends on them."""
    at, there = place.at, group.there
    norm = min(NORMS[kind]().params(at.d_model) for kind in there.norm)
    some_mixer = mixer_config({"mixer": there.mixer[0]}, place.site)

    def option(levels: Levels) -> _Option:
        feed_forward: FeedForwardChoice = feed_forward_config(levels, place.site)
        fields: dict[str, Any] = {
            "mixer": some_mixer, "feed_forward": feed_forward, "norm": NORMS[there.norm[0]](),
            "number_format": form, "placement": levels["placement"],
            "residual": levels["residual"] if feed_forward.is_present else "serial",
        }  # fmt: skip
        layer = LayerConfig.model_construct(**fields)
        counted = feed_forward_costs(layer, at, place.tokens)
        norms = group.norms * layer.num_norms * norm
        present = feed_forward.is_present
        if place.key == "macs":
            return _Option(group.layers * counted.macs, 0, present)
        if place.key == "params":
            return _Option(group.weights * counted.params + norms, 0, present)
        cost = group.weights * counted.weight_bits + _BITS * norms
        peak = max(counted.peak, place.least_peak) if place.key == "memory_bytes" else 0
        return _Option(cost, peak, present)

    for kind, residual, placement in product(there.feed_forward, there.residual, there.placement):
        fixed: dict[str, Value] = {"feed_forward": kind, "residual": residual, "placement": placement}
        names = [gene.name for gene in own_genes(FEED_FORWARDS[kind])]
        yield from _options(fixed, names, there, option)


def _options(
    fixed: Levels, names: Sequence[str], there: Domains, option: Callable[[Levels], _Option]
) -> Iterator[_Option]:
    """Those of one kind, without the values of single genes that another value of the gene beats."""
    together = [name for name in names if name in _TOGETHER]
    alone = [name for name in names if name not in _TOGETHER]
    for values in product(*(there.of(name) for name in together)):
        first = {
            **fixed,
            **dict(zip(together, values, strict=True)),
            **{name: there.of(name)[0] for name in alone},
        }
        kept = []
        for name in alone:
            tried = {value: option({**first, name: value}) for value in there.of(name)}
            best = _unbeaten(list(tried.values()))
            kept.append([value for value, cost in tried.items() if any(cost is one for one in best)])
        for chosen in product(*kept):
            yield option({**first, **dict(zip(alone, chosen, strict=True))})


def _unbeaten(options: Sequence[_Option]) -> list[_Option]:
    """Of each class, those that no other has below it in cost and not above it in peak; equal ones once."""
    found: list[_Option] = []
    for one in sorted(options, key=lambda option: (option.cost, option.peak, not option.stands_alone)):
        if not any(other.peak <= one.peak and other.stands_alone >= one.stands_alone for other in found):
            found.append(one)
    return found
