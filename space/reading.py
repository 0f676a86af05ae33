"""The genes that an architecture has by its own fields, whatever space it is from."""

import math
from collections.abc import Sequence

from .architecture import (
    Architecture,
    GroupedLayers,
    ImageInterface,
    LanguageHead,
    LayerConfig,
    NoSharing,
    SharedLayers,
)
from .choice import Surroundings
from .gene import Value
from .layer_options import hidden_width
from .positions import RopeConfig


def sharing_genes(sharing: NoSharing | SharedLayers | GroupedLayers) -> dict[str, Value]:
    """The gene values of a sharing."""
    if isinstance(sharing, NoSharing):
        return {"sharing": "none"}
    name = "all" if isinstance(sharing, SharedLayers) else f"{sharing.order}_{sharing.groups}"
    return {"sharing": name, "private_norm": sharing.private_norm}


def block_levels(layer: LayerConfig) -> dict[str, Value]:
    """The block genes of a layer."""
    return {
        "norm": layer.norm.kind,
        "placement": layer.placement,
        "residual": layer.residual,
        "number_format": layer.number_format,
    }


def read_model(architecture: Architecture) -> dict[str, Value]:
    """The model genes of an architecture."""
    read: dict[str, Value] = {
        "num_layers": len(architecture.layers),
        "d_model": architecture.d_model,
        "position": architecture.position.kind,
        "rank_ratio": architecture.projection.rank_ratio,
        "embedding_width": architecture.embedding_width,
        **sharing_genes(architecture.sharing),
    }
    if isinstance(architecture.position, RopeConfig):
        read["rotary_pct"] = architecture.position.rotary_pct
    if isinstance(architecture.interface, ImageInterface):
        read["patch_size"] = architecture.interface.patch_size
    head = architecture.head
    read |= {"tied": head.tied} if isinstance(head, LanguageHead) else {"pooling": head.pooling}
    return read


def read_layer(layer: LayerConfig, at: Surroundings) -> dict[str, Value]:
    """The layer genes of a layer, as near as its own fields say them."""
    mixer, feed_forward = layer.mixer, layer.feed_forward
    levels: dict[str, Value] = {
        "mixer": mixer.kind,
        "feed_forward": feed_forward.kind,
        **block_levels(layer),
    }
    for field, gene in mixer.genes.items():
        value = getattr(mixer, field)
        if gene.name == "head_width":
            levels["heads"], value = value, at.d_model // value
        elif gene.name == "kv_heads":
            heads = getattr(mixer, "num_heads", 1)
            value = "full" if value == heads else "one" if value == 1 else "half"
        levels[gene.name] = value
    for field, gene in feed_forward.genes.items():
        value = getattr(feed_forward, field)
        if gene.name == "ff_ratio":
            value = value / (hidden_width(feed_forward.width_factor, 100.0, at.d_model) / 100)
        levels[gene.name] = value
    return levels


def nearest_option(value: Value, options: Sequence[Value], default: Value) -> Value:
    """The option itself, the nearest number (in ratio, the smaller of two), or the default."""
    if value in options:
        return value
    if isinstance(value, str) or any(isinstance(option, (str, bool)) for option in options):
        return default
    numbers = [float(option) for option in options]
    if float(value) <= 0 or min(numbers) <= 0:
        return min(options, key=lambda option: (abs(float(option) - float(value)), float(option)))
    return min(options, key=lambda option: (abs(math.log(float(option) / float(value))), float(option)))
