"""What an architecture has of every gene, read from its JSON: the words in which people ask what mattered.

A gene of single layers is said of the whole model: the most frequent name, the mean of a number. None means
that this architecture has no such gene, as a window without a windowed mixer.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Architecture = Mapping[str, Any]
Value = float | str | None


@dataclass(frozen=True, slots=True)
class ReadGene:
    """One dimension of architectures; `of` reads it."""

    key: str
    title: str
    of: Callable[[Architecture], Value]


def number_format(architecture: Architecture) -> str:
    """The one number format of all layers, or `mixed`."""
    formats = {str(layer.get("number_format", "fp32")) for layer in architecture["layers"]}
    return formats.pop() if len(formats) == 1 else "mixed"


def main_kind(kinds: Iterable[object]) -> str:
    """The most frequent, of equally frequent ones the first by name.

    >>> main_kind(["pool", "softmax", "pool"]), main_kind(["b", "a"])
    ('pool', 'a')
    """
    counts = Counter(str(kind) for kind in kinds)
    return min(counts, key=lambda kind: (-counts[kind], kind))


def _layers(architecture: Architecture) -> Sequence[Mapping[str, Any]]:
    layers: Sequence[Mapping[str, Any]] = architecture["layers"]
    return layers


def _feed_forwards(architecture: Architecture) -> list[Mapping[str, Any]]:
    return [layer.get("feed_forward") or {} for layer in _layers(architecture)]


def _mean(values: Iterable[object]) -> float | None:
    known = [float(value) for value in values if isinstance(value, (int, float))]
    return sum(known) / len(known) if known else None


def _mean_d_ff(architecture: Architecture) -> float | None:
    return _mean(one.get("d_ff") for one in _feed_forwards(architecture))


def _ff_ratio(architecture: Architecture) -> float | None:
    mean = _mean_d_ff(architecture)
    return None if mean is None else round(mean / float(architecture["d_model"]), 2)


def _activation(architecture: Architecture) -> str | None:
    known = [one["activation"] for one in _feed_forwards(architecture) if one.get("activation")]
    return main_kind(known) if known else None


def _kind(architecture: Architecture, name: str) -> str:
    return str((architecture.get(name) or {}).get("kind", "none"))


def _of_mixers(field: str) -> Callable[[Architecture], Value]:
    """The mean of a number of those mixers that have it."""
    return lambda one: _mean(layer["mixer"].get(field) for layer in _layers(one))


GENES: Mapping[str, ReadGene] = {
    gene.key: gene
    for gene in (
        ReadGene("num_layers", "layers", lambda one: float(len(_layers(one)))),
        ReadGene("d_model", "width", lambda one: float(one["d_model"])),
        ReadGene("mixer", "main mixer", lambda one: main_kind(x["mixer"]["kind"] for x in _layers(one))),
        ReadGene("num_heads", "heads", _of_mixers("num_heads")),
        ReadGene("window", "window", _of_mixers("window")),
        ReadGene(
            "feed_forward",
            "main feed-forward",
            lambda one: main_kind(x.get("kind", "none") for x in _feed_forwards(one)),
        ),
        ReadGene("d_ff", "feed-forward width", _mean_d_ff),
        ReadGene("ff_ratio", "feed-forward width, times the width", _ff_ratio),
        ReadGene("activation", "main activation", _activation),
        ReadGene("norm", "main norm", lambda one: main_kind(x["norm"]["kind"] for x in _layers(one))),
        ReadGene(
            "placement",
            "place of the norm",
            lambda one: main_kind(x.get("placement", "pre") for x in _layers(one)),
        ),
        ReadGene(
            "residual", "residual", lambda one: main_kind(x.get("residual", "serial") for x in _layers(one))
        ),
        ReadGene("position", "position", lambda one: _kind(one, "position")),
        ReadGene("sharing", "shared layers", lambda one: _kind(one, "sharing")),
        ReadGene("number_format", "number format", number_format),
    )
}
