"""From a genotype to its architecture, and back.

`decode` is total on the genotypes of a space: it repairs (snaps widths, gives ALiBi its heads, replaces a
position choice that nothing in the stack reads) and returns a canonical architecture. `encode` is its
inverse on the space: decode(encode(a)).id == a.id. `project` reads any architecture as well as the space
can say it.

Source: choices.md 14 (validity, canonical form); evaluators_and_search.md 12.1, 12.2.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

from .architecture import (
    IN_MIXERS,
    Architecture,
    GroupedLayers,
    LayerConfig,
    NoSharing,
    SharedLayers,
    canonical_sharing,
    canonicalise,
    check_architecture,
)
from .choice import PositionChoice, Surroundings
from .counts import keep_counts, stands
from .definition import SpaceDefinition
from .errors import InvalidArchitectureError, InvalidInputError, nearest
from .feedforward import FEED_FORWARDS
from .gene import Value
from .genes import BLOCK_GENES, MODEL_GENES, Domains, Genotype
from .layer_options import (
    Levels,
    World,
    feed_forward_config,
    feed_forward_worlds,
    mixer_config,
    mixer_worlds,
)
from .mixers import MIXERS
from .norms import NORMS
from .positions import POSITIONS, RopeConfig
from .reading import block_levels, nearest_option, read_layer, read_model, sharing_genes
from .rules import breaches


def settle(
    definition: SpaceDefinition, position: str, reads: Collection[str], *, order_aware: bool
) -> str | None:
    """The position choice a stack really gets when its gene says `position`.

    It is that one where it acts (`reads`: what the stack's mixers read); else `none` where some mixer sees
    order by itself or a decoder asked for `none`; else the first of the domain that acts. Where nothing
    acts a decoder has `none`, and a bidirectional model cannot be: None.
    """
    if _acts(position, reads):
        return position
    causal = definition.model == "decoder"
    if order_aware or (position == "none" and causal):
        return "none"
    for other in definition.domains.position:
        if _acts(other, reads):
            return other
    return "none" if causal else None


def decode(definition: SpaceDefinition, genotype: Genotype) -> Architecture:
    """The canonical architecture of a genotype; missing genes have the first value of their domain.

    Raises:
        InvalidInputError: an unknown gene or value, no interface yet, or a bidirectional model that no mixer
            and position of the space lets see order.
    """
    _check_values(definition, genotype)
    model = {key: definition.value(genotype, key) for key in MODEL_GENES}
    layers = [definition.levels(genotype, layer) for layer in range(definition.depth(genotype))]
    return assemble(definition, model, layers)


def assemble(
    definition: SpaceDefinition, model: Genotype, layers: Sequence[dict[str, Value]]
) -> Architecture:
    """The canonical architecture of model genes and of the layer genes of every layer, repaired.

    The values have to be of their domains; genes that nothing reads may be missing.

    Raises:
        InvalidInputError: as `decode`.
    """
    is_blind = False
    for one in _poolings(definition, model):
        for sharing in _sharings(definition, one):
            levels = _kept(definition, one, layers, sharing)
            if levels is None:
                continue
            if _fits(definition, one, levels):
                architecture = _seeing_order(definition, one, levels, sharing)
                if architecture is not None:
                    return architecture
                is_blind = True
            break
    if is_blind:
        raise InvalidInputError(
            f"positions {', '.join(definition.domains.position)} with mixers "
            f"{', '.join(definition.domains.mixer)} leave every '{definition.model}' model blind to order; "
            "add position 'learned' or mixer 'gated_conv'"
        )
    rules = " and ".join(rule.told() for rule in definition.rules if rule.is_count)
    raise InvalidInputError(
        f"rules {rules} cannot be kept by {len(layers)} layers of space '{definition.name}'; "
        "leave one out or widen the domains"
    )


def _poolings(definition: SpaceDefinition, model: Genotype) -> Iterator[Genotype]:
    """The model genes, then without the class token for stacks that it cannot stand before."""
    yield model
    if definition.class_tokens(model) and definition.plain_poolings:
        yield {**model, "pooling": definition.plain_poolings[0]}


def _fits(definition: SpaceDefinition, model: Genotype, levels: Sequence[Levels]) -> bool:
    """Whether no mixer reads the grid of an image that begins with a class token."""
    if definition.model != "vision" or not definition.class_tokens(model):
        return True
    at = _site(definition, model, definition.domains.position[0])
    return not any(MIXERS[_kinds(level, at)[0]].reads_grid for level in levels)


def _sharings(
    definition: SpaceDefinition, model: Genotype
) -> Iterator[NoSharing | SharedLayers | GroupedLayers]:
    """That of the genes first; the others for rules that it cannot keep."""
    domains = definition.domains
    value = str(model.get("sharing", domains.sharing[0]))
    private_norm = bool(model.get("private_norm", domains.private_norm[0]))
    for other in sorted(domains.sharing, key=lambda name: name != value):
        yield sharing_config(other, private_norm)


def _seeing_order(
    definition: SpaceDefinition,
    model: Genotype,
    levels: list[dict[str, Value]],
    sharing: NoSharing | SharedLayers | GroupedLayers,
) -> Architecture | None:
    """The architecture; where it would be blind to order, with another mixer in its first layer, or None."""
    architecture = _assemble(definition, model, levels, sharing)
    if architecture is not None:
        return architecture
    owners = sharing.owners(len(levels))
    changed = range(len(levels)) if "mixer" in definition.shared else owners[:1]
    for kind in definition.domains_at(0, len(levels)).mixer:
        others = [
            {**layer, "mixer": kind} if owners[i] in changed else layer for i, layer in enumerate(levels)
        ]
        if all(map(stands, others)) and _fits(definition, model, others):
            architecture = _assemble(definition, model, others, sharing)
            if architecture is not None:
                return architecture
    return None


def encode(definition: SpaceDefinition, architecture: Architecture) -> dict[str, Value]:
    """A genotype of every gene that decodes to the architecture; idle genes get plausible values.

    Raises:
        InvalidArchitectureError: the architecture is no member of the space; the message says which part.
    """
    model_genes = _encode_model(definition, architecture)
    for position in _positions_behind(definition, architecture):
        levels = _encode_layers(definition, architecture, position)
        if levels is not None:
            return definition.genotype({**model_genes, "position": position}, levels)
    raise InvalidArchitectureError(
        f"position or layers of architecture {architecture.id} lie outside space '{definition.name}'; "
        "widen its domains with space.set"
    )


def project(definition: SpaceDefinition, architecture: Architecture) -> dict[str, Value]:
    """The genotype of a member; of any other architecture the one with the nearest value of each gene."""
    try:
        return encode(definition, architecture)
    except InvalidArchitectureError:
        pass
    read = read_model(architecture)
    layers = [read_layer(layer, architecture.surroundings()) for layer in architecture.layers]
    genotype = definition.genotype(read, layers)
    for gene in definition.all_genes:
        genotype[gene.name] = nearest_option(
            genotype[gene.name], gene.options, definition.domains.default(gene.key)
        )
    return genotype


def _acts(position: str, reads: Collection[str]) -> bool:
    return position != "none" and (position not in IN_MIXERS or position in reads)


def _assemble(
    definition: SpaceDefinition,
    model: Genotype,
    levels: Sequence[Levels],
    sharing: NoSharing | SharedLayers | GroupedLayers,
) -> Architecture | None:
    """Of repaired layers. None: blind to order whatever the position."""
    domains = definition.domains

    def gene(key: str) -> Value:
        return model[key] if key in model else domains.default(key)

    d_model, interface = int(gene("d_model")), definition.interface_with(int(gene("patch_size")))
    kinds = [MIXERS[str(level["mixer"])] for level in levels]
    position = settle(
        definition,
        str(gene("position")),
        frozenset().union(*(kind.positions for kind in kinds)),
        order_aware=any(kind.order_aware for kind in kinds),
    )
    if position is None:
        return None
    rank_ratio = float(gene("rank_ratio"))
    at = _site(definition, model, position)
    configs = tuple(_layer(tuple(level.items()), at) for level in levels)
    projection = {"kind": "dense"} if rank_ratio == 1.0 else {"kind": "lowrank", "rank_ratio": rank_ratio}
    architecture = Architecture.model_validate(
        {
            "model": definition.model,
            "interface": interface,
            "d_model": d_model,
            "embedding_width": definition.embedding_width(int(gene("embedding_width")), d_model),
            "position": position_config(position, float(gene("rotary_pct"))),
            "layers": configs,
            "sharing": sharing,
            "projection": projection,
            "final_norm": configs[-1].norm,
            "head": definition.head(tied=bool(gene("tied")), pooling=str(gene("pooling"))),
        }
    )
    check_architecture(architecture)
    return canonicalise(architecture)


def position_config(kind: str, rotary_pct: float) -> PositionChoice:
    """The position of gene values."""
    return RopeConfig(rotary_pct=rotary_pct) if kind == "rope" else POSITIONS[kind]()


def sharing_config(value: str, private_norm: bool) -> NoSharing | SharedLayers | GroupedLayers:
    """The sharing of gene values `none`, `all`, `repeat_2`, `cycle_3`, ..."""
    if value == "none":
        return NoSharing()
    if value == "all":
        return SharedLayers(private_norm=private_norm)
    order, groups = value.split("_")
    return GroupedLayers.model_validate({"groups": int(groups), "order": order, "private_norm": private_norm})


@lru_cache(maxsize=65_536)
def _layer(genes: tuple[tuple[str, Value], ...], at: Surroundings) -> LayerConfig:
    """The layer of these genes. Equal layers are one object."""
    levels = dict(genes)
    return LayerConfig.model_validate(
        {
            "mixer": mixer_config(levels, at),
            "feed_forward": feed_forward_config(levels, at),
            "norm": NORMS[str(levels["norm"])](),
            **{key: levels[key] for key in ("placement", "residual", "number_format")},
        }
    )


def _kept(
    definition: SpaceDefinition,
    model: Genotype,
    layers: Sequence[dict[str, Value]],
    sharing: NoSharing | SharedLayers | GroupedLayers,
) -> list[dict[str, Value]] | None:
    """The layers, those that share weights alike, as rules and mixers want them; None: that cannot be."""
    depth = len(layers)
    owners = sharing.owners(depth)
    blocks = {i: definition.ruled(layers[i], i, depth) for i in sorted(set(owners))}
    at = _site(definition, model, definition.domains.position[0])
    _let_stand(definition, blocks, depth)
    kept = keep_counts(definition, blocks, owners, lambda level: _kinds(level, at))
    return [blocks[owner] for owner in owners] if kept else None


def _site(definition: SpaceDefinition, model: Genotype, position: str) -> Surroundings:
    """Where the layers stand under these model genes."""
    interface = definition.interface_with(int(model.get("patch_size", definition.domains.patch_size[0])))
    d_model = int(model.get("d_model", definition.domains.d_model[0]))
    return definition.site(d_model, interface, position, class_tokens=definition.class_tokens(model))


def _kinds(level: Levels, at: Surroundings) -> tuple[str, str]:
    """The canonical mixer and feed-forward: a window over the whole context is softmax."""
    layer = _layer(tuple(level.items()), at)
    return layer.mixer.kind, layer.feed_forward.kind


def _let_stand(definition: SpaceDefinition, blocks: dict[int, dict[str, Value]], depth: int) -> None:
    """Gives a mixer that cannot stand without a feed-forward the first one permitted, else changes the mixer.

    Genes that all layers share change in all of them.
    """
    falling = [index for index, level in blocks.items() if not stands(level)]
    for index in falling:
        there = definition.domains_at(index, depth)
        present = [kind for kind in there.feed_forward if FEED_FORWARDS[kind].is_present]
        alone = [kind for kind in there.mixer if MIXERS[kind].own_nonlinearity]
        gene, options = ("feed_forward", present) if present else ("mixer", alone)
        if not options:
            raise InvalidInputError(
                f"mixer '{blocks[index]['mixer']}' cannot stand without a feed-forward; "
                "add mlp or glu to gene 'feed_forward'"
            )
        for other in blocks if gene in definition.shared else (index,):
            blocks[other] = {**blocks[other], gene: options[0]}


def _check_values(definition: SpaceDefinition, genotype: Genotype) -> None:
    for name, value in genotype.items():
        options = definition.options.get(name)
        if options is None:
            raise InvalidInputError(f"unknown gene '{name}'; {nearest(name, definition.options)}")
        if value not in options:
            valid = nearest(str(value), map(str, options))
            raise InvalidInputError(f"gene '{name}': unknown value '{value}'; {valid}")


def _encode_model(definition: SpaceDefinition, architecture: Architecture) -> dict[str, Value]:
    found = read_model(architecture) | _sharing_behind(definition, architecture)
    found |= _embedding_behind(definition, architecture)
    found.pop("position")
    wrong = [f"{key}={value}" for key, value in found.items() if value not in definition.domains.of(key)]
    if architecture.model != definition.model:
        wrong.append(f"model={architecture.model}")
    elif architecture.interface != definition.interface_with(int(found.get("patch_size", 1))):
        wrong.append("interface")
    elif architecture.head != definition.head(
        tied=bool(found.get("tied", False)), pooling=str(found.get("pooling", "mean"))
    ):
        wrong.append("head")
    if architecture.final_norm != architecture.layers[-1].norm:
        wrong.append("final_norm")
    if wrong:
        raise InvalidArchitectureError(
            f"{', '.join(wrong)} of architecture {architecture.id} lies outside space '{definition.name}'"
        )
    return found


def _sharing_behind(definition: SpaceDefinition, architecture: Architecture) -> dict[str, Value]:
    """Sharing genes that end as the architecture's sharing; {}: none does."""
    depth = len(architecture.layers)
    direct = sharing_genes(architecture.sharing)
    pairs = product(definition.domains.sharing, definition.domains.private_norm)
    for value, private_norm in sorted(pairs, key=lambda pair: pair[0] != direct["sharing"]):
        if canonical_sharing(sharing_config(value, private_norm), depth) == architecture.sharing:
            return {"sharing": value, "private_norm": private_norm}
    return {}


def _embedding_behind(definition: SpaceDefinition, architecture: Architecture) -> dict[str, Value]:
    """The gene that ends as the architecture's width of a table's rows, itself first; {}: none does."""
    width, d_model = architecture.embedding_width, architecture.d_model
    for value in sorted(definition.domains.embedding_width, key=lambda value: value != width):
        if definition.embedding_width(value, d_model) == width:
            return {"embedding_width": value}
    return {}


def _positions_behind(definition: SpaceDefinition, architecture: Architecture) -> Iterator[str]:
    """Position genes that can end as the architecture's position, itself first."""
    kind = architecture.position.kind
    mixers = [layer.mixer for layer in architecture.layers]
    reads = frozenset().union(*(mixer.positions for mixer in mixers))
    order_aware = any(mixer.order_aware for mixer in mixers)
    for position in sorted(definition.domains.position, key=lambda name: name != kind):
        if settle(definition, position, reads, order_aware=order_aware) == kind and kind in (
            position,
            "none",
        ):
            yield position


def _encode_layers(
    definition: SpaceDefinition, architecture: Architecture, position: str
) -> list[dict[str, Value]] | None:
    layers = architecture.layers
    at = definition.site(
        architecture.d_model, architecture.interface, position, class_tokens=architecture.class_tokens
    )
    there = [definition.domains_at(owner, len(layers)) for owner in architecture.owners]
    mixers = _match(
        [mixer_worlds(definition.domains, domains, definition.shared, at) for domains in there],
        [layer.mixer for layer in layers],
    )
    feed_forwards = _match(
        [feed_forward_worlds(definition.domains, domains, definition.shared, at) for domains in there],
        [layer.feed_forward for layer in layers],
    )
    blocks = _block_genes(definition, layers, there)
    if mixers is None or feed_forwards is None or blocks is None or not _keeps_counts(definition, layers):
        return None
    return [{**m, **f, **b} for m, f, b in zip(mixers, feed_forwards, blocks, strict=True)]


def _match(worlds: Sequence[Sequence[World]], configs: Sequence[Any]) -> list[Levels] | None:
    """The genes of every config in the first world that has them all; worlds of every layer."""
    for same_world in zip(*worlds, strict=True):
        found = [world.levels(config) for world, config in zip(same_world, configs, strict=True)]
        if all(levels is not None for levels in found):
            return [levels for levels in found if levels is not None]
    return None


def _block_genes(
    definition: SpaceDefinition, layers: Sequence[LayerConfig], there: Sequence[Domains]
) -> list[dict[str, Value]] | None:
    """The block genes of every layer; the residual of a layer without feed-forward is free."""
    blocks = [block_levels(layer) for layer in layers]
    said = [block["residual"] for block, layer in zip(blocks, layers, strict=True) if layer.feed_forwards]
    for block, layer, domains in zip(blocks, layers, there, strict=True):
        if not layer.feed_forwards:
            shared = said[0] if said and "residual" in definition.shared else domains.residual[0]
            block["residual"] = shared
        if any(block[key] not in domains.of(key) for key in BLOCK_GENES):
            return None
    for key in BLOCK_GENES:
        if key in definition.shared and len({block[key] for block in blocks}) > 1:
            return None
    return blocks


def _keeps_counts(definition: SpaceDefinition, layers: Sequence[LayerConfig]) -> bool:
    kinds = [(layer.mixer.kind, layer.feed_forward.kind) for layer in layers]
    return all(breaches(rule, kinds) == 0 for rule in definition.rules if rule.is_count)
