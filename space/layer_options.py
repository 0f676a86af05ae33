"""From genes to the configs of one layer: snapping to legal values, and the table of all options of a layer.

A width that does not divide d_model snaps to the nearest legal one (in ratio); ALiBi gets the 4 heads it
needs. The hidden width of a feed-forward is a multiple of 8:

    ordinary:  d_ff = 8 round(ratio d / 8)          gated:  d_ff = 8 round((2/3) ratio d / 8)

Source: choices.md 6.3 (equal parameters), 14 (validity); evaluators_and_search.md 12.2 (repair).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from .architecture import (
    Architecture,
    BytesInterface,
    ClassificationHead,
    LanguageHead,
    LayerConfig,
    canonicalise,
)
from .choice import FeedForwardChoice, MixerChoice
from .feedforward import MlpConfig
from .genes import (
    FEED_FORWARD_GENES,
    FEED_FORWARDS,
    LAYER_GENES,
    MIXER_FIELDS,
    MIXER_GENES,
    MIXERS,
    Domains,
    LayerGene,
    Value,
)
from .norms import LayerNormConfig
from .positions import NonePositionConfig

MIN_HEADS_ALIBI = 4
Levels = Mapping[str, Value]
"""Layer gene -> value, for one layer."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a layer's choices depend on, besides their genes."""

    d_model: int
    tokens: int
    causal: bool
    position: str


@dataclass(frozen=True, slots=True)
class World:
    """One assignment of the shared genes; every config a layer can then have, with the genes that give it."""

    shared: Levels
    options: Mapping[Any, Levels]


def mixer_config(levels: Levels, site: Site) -> MixerChoice:
    """The canonical mixer of these genes at this site."""
    kind = str(levels["mixer"])
    heads = _num_heads(int(levels.get("head_width", 0)), kind, site) if _has_heads(kind) else 1
    values: dict[str, Value] = {}
    for field, gene in MIXER_FIELDS[kind].items():
        if field == "num_heads":
            values[field] = heads
        elif field == "num_kv_heads":
            values[field] = _num_kv_heads(str(levels[gene]), heads)
        else:
            values[field] = levels[gene]
    return canonical_mixer(MIXERS[kind].model_validate(values), site.d_model, site.tokens, site.causal)


def feed_forward_config(levels: Levels, d_model: int) -> FeedForwardChoice:
    kind = str(levels["feed_forward"])
    d_ff = hidden_width(kind, float(levels["ff_ratio"]), d_model)
    return FEED_FORWARDS[kind].model_validate({"activation": levels["activation"], "d_ff": d_ff})


def hidden_width(kind: str, ratio: float, d_model: int) -> int:
    """d_ff of a feed-forward with the parameters of an ordinary one of `ratio` times d_model.

    >>> hidden_width("glu", 4.0, 64), hidden_width("mlp", 4.0, 64)
    (168, 256)
    """
    wanted = ratio * d_model * (2 / 3 if kind == "glu" else 1)
    return max(8, 8 * math.floor(wanted / 8 + 0.5))


def active_mixer_genes(kind: str) -> tuple[LayerGene, ...]:
    """The genes a mixer reads, `mixer` itself first."""
    return ("mixer", *MIXER_FIELDS[kind].values())


def active_layer_genes(mixer: str) -> frozenset[LayerGene]:
    """The layer genes that matter in a layer with this mixer."""
    return frozenset(LAYER_GENES) - (frozenset(MIXER_GENES) - frozenset(active_mixer_genes(mixer)))


def legal_head_counts(d_model: int, *, least_heads: int = 1) -> tuple[int, ...]:
    """Head counts whose heads are even and at least 8 wide, or, where there are none, those of even width."""
    divisors = [h for h in range(least_heads, d_model // 2 + 1) if d_model % h == 0 and d_model // h % 2 == 0]
    return tuple(h for h in divisors if d_model // h >= 8) or tuple(divisors[:1])


@lru_cache(maxsize=65536)
def canonical_mixer(mixer: MixerChoice, d_model: int, tokens: int, causal: bool) -> MixerChoice:
    """The mixer as `canonicalise` writes it in a model of this size (the rules stand there only)."""
    one = Architecture(
        model="decoder" if causal else "encoder",
        interface=BytesInterface(context_length=tokens, outputs=256),
        d_model=d_model,
        position=NonePositionConfig(),
        layers=(LayerConfig(mixer=mixer, feed_forward=_ANY_FEED_FORWARD, norm=LayerNormConfig()),),
        final_norm=LayerNormConfig(),
        head=LanguageHead() if causal else ClassificationHead(),
    )
    return canonicalise(one).layers[0].mixer


_ANY_FEED_FORWARD = MlpConfig(activation="relu", d_ff=8)


@lru_cache(maxsize=4096)
def mixer_worlds(domains: Domains, shared: tuple[str, ...], site: Site) -> tuple[World, ...]:
    """Every assignment of the shared mixer genes with the mixers a layer can then have."""
    return tuple(
        World(fixed, _mixer_table(domains, fixed, site))
        for fixed in _assignments(domains, shared, MIXER_GENES)
    )


@lru_cache(maxsize=4096)
def feed_forward_worlds(domains: Domains, shared: tuple[str, ...], d_model: int) -> tuple[World, ...]:
    """Every assignment of the shared feed-forward genes with the feed-forwards a layer can then have."""
    worlds = []
    for fixed in _assignments(domains, shared, FEED_FORWARD_GENES):
        table: dict[FeedForwardChoice, Levels] = {}
        for levels in _free(domains, fixed, FEED_FORWARD_GENES):
            table.setdefault(feed_forward_config(levels, d_model), levels)
        worlds.append(World(fixed, table))
    return tuple(worlds)


def _mixer_table(domains: Domains, fixed: Levels, site: Site) -> dict[MixerChoice, Levels]:
    table: dict[MixerChoice, Levels] = {}
    kinds = (fixed["mixer"],) if "mixer" in fixed else domains.mixer
    for kind in kinds:
        for levels in _free(domains, {**fixed, "mixer": kind}, active_mixer_genes(str(kind))):
            table.setdefault(mixer_config(levels, site), levels)
    return table


def _assignments(domains: Domains, shared: tuple[str, ...], genes: tuple[LayerGene, ...]) -> Iterator[Levels]:
    names = [gene for gene in genes if gene in shared]
    for values in product(*(domains.of(gene) for gene in names)):
        yield dict(zip(names, values, strict=True))


def _free(domains: Domains, fixed: Levels, genes: tuple[LayerGene, ...]) -> Iterator[dict[str, Value]]:
    """Every assignment of `genes` that agrees with the fixed ones."""
    for values in product(*((fixed[gene],) if gene in fixed else domains.of(gene) for gene in genes)):
        yield dict(zip(genes, values, strict=True))


def _has_heads(kind: str) -> bool:
    return "num_heads" in MIXER_FIELDS[kind]


def _num_heads(head_width: int, kind: str, site: Site) -> int:
    needs_four = site.position == "alibi" and "alibi" in MIXERS[kind].positions
    counts = legal_head_counts(site.d_model, least_heads=MIN_HEADS_ALIBI if needs_four else 1)
    return min(counts, key=lambda count: (abs(math.log(site.d_model / count / head_width)), count))


def _num_kv_heads(share: str, heads: int) -> int:
    if share == "full":
        return heads
    wanted = 1 if share == "one" else heads / 2
    return min((g for g in range(1, heads + 1) if heads % g == 0), key=lambda g: (abs(g - wanted), g))
