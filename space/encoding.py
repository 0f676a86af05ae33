"""Architectures as rows of numbers, for surrogate models.

    vector       one column per ordered gene, log-scaled to [0, 1] over its domain (by rank where the domain
                 has a 0); one per option of any other gene (one-hot); of every possible layer an activity
                 bit. What is switched off is 0.
    statistics   depth, log width, log parameters and MACs, shares of every mixer and feed-forward over the
                 whole depth and its thirds, mean and slope of layer widths, shares of activations and norms,
                 mean bits per weight: the same columns for spaces of any depth.

Source: evaluators_and_search.md 5.3 (statistics), 12.1 (vector).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import numpy as np
from jaxtyping import Float64

from .activations import ActivationName
from .architecture import Architecture
from .batch_costs import CostTable
from .feedforward import FEED_FORWARDS
from .gene import ACTIVATION_GENE, Value
from .genes import Gene
from .mixers import MIXERS
from .norms import NORMS
from .quantization import number_format
from .search_space import SearchSpace

THIRDS = ("first", "middle", "last")


@dataclass(frozen=True)
class VectorEncoding:
    """Genes of one space as numbers in [0, 1]."""

    space: SearchSpace

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        named: list[str] = []
        for gene in self.space.genes():
            named += [gene.name] if gene.ordinal else [f"{gene.name}={option}" for option in gene.options]
        deepest = max(self.space.domains.num_layers)
        return (*named, *(f"layer{index}.active" for index in range(deepest)))

    def rows(self, architectures: Sequence[Architecture]) -> Float64[np.ndarray, "architectures columns"]:
        """One row per architecture; what lies outside the space is taken as the nearest inside."""
        return np.array([self._row(a) for a in architectures]).reshape(-1, len(self.columns))

    def _row(self, architecture: Architecture) -> list[float]:
        genotype = self.space.project(architecture)
        active = {gene.name for gene in self.space.active_genes(genotype)}
        row: list[float] = []
        for gene in self.space.genes():
            value = genotype[gene.name]
            if gene.ordinal:
                row.append(scaled(gene, value) if gene.name in active else 0.0)
            else:
                row += [float(gene.name in active and value == option) for option in gene.options]
        depth = len(architecture.layers)
        return [*row, *(float(index < depth) for index in range(max(self.space.domains.num_layers)))]


def scaled(gene: Gene, value: Value) -> float:
    """Place of an option of an ordered gene in [0, 1], by logarithm; by rank what has none: names, domains
    with a 0. A single option is 1.
    """
    low, high = gene.options[0], gene.options[-1]
    if low == high:
        return 1.0
    if isinstance(value, str) or float(low) <= 0:
        return gene.options.index(value) / (len(gene.options) - 1)
    return math.log(float(value) / float(low)) / math.log(float(high) / float(low))


STATISTICS: tuple[str, ...] = (
    "num_layers",
    "log_d_model",
    "log_params",
    "log_macs",
    *(f"{part}.{kind}" for part in ("all", *THIRDS) for kind in MIXERS),
    *(f"feed_forward.{kind}" for kind in FEED_FORWARDS),
    *(f"activation.{name}" for name in get_args(ActivationName)),
    *(f"norm.{kind}" for kind in NORMS),
    "ff_ratio.mean",
    "ff_ratio.slope",
    "heads.mean",
    "heads.slope",
    "bits.mean",
    "shared",
)
"""Columns of `statistics`."""


def statistics(architectures: Sequence[Architecture]) -> Float64[np.ndarray, "architectures statistics"]:
    """One row per architecture, columns `STATISTICS`."""
    if not architectures:
        return np.zeros((0, len(STATISTICS)))
    costs = CostTable().costs(architectures)
    sizes = zip(costs["params"].tolist(), costs["macs"].tolist(), strict=True)
    return np.array([_statistics(a, *size) for a, size in zip(architectures, sizes, strict=True)])


def _statistics(architecture: Architecture, params: int, macs: int) -> list[float]:
    layers, d_model = architecture.layers, architecture.d_model
    depth = len(layers)
    mixers = [layer.mixer.kind for layer in layers]
    ratios = [float(getattr(layer.feed_forward, "d_ff", 0)) / d_model for layer in layers]
    heads = [float(getattr(layer.mixer, "num_heads", 0)) for layer in layers]
    bits = [float(number_format(layer.number_format).bits_per_weight(d_model)) for layer in layers]
    row = [float(depth), math.log(d_model), math.log(params), math.log(macs)]
    for part in range(-1, 3):
        there = [kind for index, kind in enumerate(mixers) if part < 0 or 3 * index // depth == part]
        row += [there.count(kind) / max(1, len(there)) for kind in MIXERS]
    row += _shares([layer.feed_forward.kind for layer in layers], FEED_FORWARDS)
    row += _shares(
        [str(getattr(layer.feed_forward, ACTIVATION_GENE, "")) for layer in layers], get_args(ActivationName)
    )
    row += _shares([layer.norm.kind for layer in layers], NORMS)
    for series in (ratios, heads):
        row += [sum(series) / depth, _slope(series)]
    return [*row, sum(bits) / depth, 1.0 - len(set(architecture.owners)) / depth]


def _shares(values: Sequence[str], kinds: Collection[str]) -> list[float]:
    return [values.count(kind) / len(values) for kind in kinds]


def _slope(series: Sequence[float]) -> float:
    """Of the least-squares line over relative depth 0 .. 1; 0 for one layer."""
    if len(series) < 2:
        return 0.0
    return float(np.polyfit(np.linspace(0, 1, len(series)), series, 1)[0])
