"""The least value that a closed-form cost has in a space, without listing the space.

    cost = ends + sum over layers (mixer + feed-forwards + norms) + position        (+ the activation peak)

A sum over layers is least where each of its terms is: one layer for all that have the same domains. Of the
mixers, heads are taken in every combination and each other gene alone, because those add to a cost or take
nothing from it whatever the others are. A peak is a maximum over layers: it is tried as a bound, from each
value that some layer can have.

Exact without rules that name layers; with them never too high, so that a limit below it cannot be kept: what
rules count, and that layers share a gene, is not looked at across different layers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

from .architecture import ImageInterface, LayerConfig, canonical_sharing
from .choice import FeedForwardChoice, MixerChoice, PositionChoice, Surroundings
from .costs import BYTES_PER_NUMBER, EndCosts, PartCosts, end_costs, feed_forward_costs, weight_bits
from .definition import SpaceDefinition
from .gene import Value
from .genes import Domains
from .genotypes import IN_MIXERS, decode, position_config, settle, sharing_config
from .layer_options import (
    active_feed_forward_genes,
    active_mixer_genes,
    feed_forward_config,
    mixer_config,
)
from .mixers import MIXERS
from .norms import NORMS
from .quantization import number_format

_PAIRED = ("head_width", "heads", "own_head_width", "kv_heads")
"""Genes that decide a number of heads together."""
_BITS = 8 * BYTES_PER_NUMBER
_COMPANIONS = 2
"""Other kinds of mixers in a stack that may decide its position: one that reads it, one that sees order."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Layers with the same domains: how many own their weights, their norms, and how many there are."""

    there: Domains
    weights: int
    norms: int
    layers: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the layers of a group stand, and what is counted there."""

    key: str
    group: _Group
    at: Surroundings
    tokens: int
    batch_size: int
    position: PositionChoice
    counts_position: bool
    """The position's parameters depend on the mixers, and all layers are in this group."""


_Option = tuple[int, int]
"""Cost (bits for bytes) of all layers of a group, and their activation peak, numbers of one sequence."""


def least(definition: SpaceDefinition, key: str, batch_size: int = 1, tokens: int | None = None) -> int:
    """The least `params`, `macs`, `weights_bytes` or `memory_bytes` of the space."""
    domains = definition.domains
    depths = domains.num_layers if definition.rules else (min(domains.num_layers),)
    sizes = domains.patch_size if definition.model == "vision" else (1,)
    ties = domains.tied if definition.model == "decoder" else (False,)
    best: int | None = None
    for d_model, patch_size, tied in product(sorted(domains.d_model), sizes, ties):
        built = decode(definition, {"d_model": d_model, "patch_size": patch_size, "tied": tied}
                       if definition.model != "encoder" else {"d_model": d_model})
    raise AssertionError(best)
