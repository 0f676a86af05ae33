"""Search problems replayed from published tables: an architecture of one of our spaces in, objectives out.

    fitted     log y = c + w.f(architecture), f in closed form (`FEATURES`), w fitted to the table by ridge
    tabular    the table's own values; an architecture is taken as the nearest row not seen before

A problem is a file in `benchmarks/problems/`: columns, coefficients, their error on rows left out, ideal and
reference point, and where homogeneous designs leave the range of the table. `fit_problems` writes the files.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from search.indicators import hypervolume
from space.architecture import Architecture, BytesInterface
from space.encoding import VectorEncoding
from space.search_space import SearchSpace, load_preset

PROBLEMS = Path(__file__).parent / "problems"
REFERENCE = 1.1
"""In every normalised objective: 10 % beyond the worst row of the table."""


@dataclass(frozen=True)
class Problem:
    """One search problem. Objectives are minimised."""

    name: str
    spec: Mapping[str, Any]
    data: Path
    _answers: dict[str, tuple[float, ...]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, name: str, data: Path) -> "Problem":
        return cls(name, json.loads((PROBLEMS / f"{name}.json").read_text(encoding="utf-8")), data)

    @cached_property
    def space(self) -> SearchSpace:
        return problem_space(self.spec)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Keys of `search.objectives`, which say what is logarithmic; the first is the quality."""
        return tuple(objective["key"] for objective in self.spec["objectives"])

    @property
    def is_tabular(self) -> bool:
        return "table" in self.spec

    def evaluate(
        self, architecture: Architecture, seen: Sequence[str] = ()
    ) -> tuple[Architecture, tuple[float, ...]]:
        """The architecture that stands for it, and its objectives; of a table the nearest row not in `seen`
        (ids).
        """
        if self.is_tabular:
            return self._nearest(architecture, frozenset(seen))
        if architecture.id not in self._answers:
            found = FEATURES[self.spec["features"]](architecture)
            self._answers[architecture.id] = tuple(
                math.exp(objective["intercept"] + float(np.dot(objective["coefficients"], found)))
                for objective in self.spec["objectives"]
            )
        return architecture, self._answers[architecture.id]

    def hypervolume(self, vectors: Sequence[Sequence[float]]) -> float:
        """Normalised by the ideal and the worst row of the table; latency, memory and sizes by logarithm."""
        scaled = []
        for vector in vectors:
            row = []
            for value, objective in zip(vector, self.spec["objectives"], strict=True):
                low, high = objective["ideal"], objective["worst"]
                if objective["log"]:
                    value, low, high = math.log(value), math.log(low), math.log(high)
                row.append((value - low) / (high - low))
            scaled.append(row)
        return hypervolume(scaled, (REFERENCE,) * len(self.objectives))

    @cached_property
    def rows(self) -> list[tuple[Architecture, tuple[float, ...]]]:
        """The distinct architectures of a table with their objectives; of equal ones the first."""
        found: dict[str, tuple[Architecture, tuple[float, ...]]] = {}
        for row in read_table(self.data / self.spec["table"]):
            architecture = self.space.decode(flexibert_genotype(row))
            found.setdefault(architecture.id, (architecture, flexibert_values(row, self.spec)))
        return list(found.values())

    @cached_property
    def _encoded(self) -> np.ndarray:
        return VectorEncoding(self.space).rows([architecture for architecture, _ in self.rows])

    def _nearest(
        self, architecture: Architecture, seen: frozenset[str]
    ) -> tuple[Architecture, tuple[float, ...]]:
        here = VectorEncoding(self.space).rows([architecture])[0]
        distance = np.abs(self._encoded - here).sum(axis=1)
        for index in np.argsort(distance, kind="stable").tolist():
            row = self.rows[int(index)]
            if row[0].id not in seen:
                return row
        raise ValueError(f"all {len(self.rows)} rows are seen; ask for fewer evaluations")


def problem_space(spec: Mapping[str, Any]) -> SearchSpace:
    space = load_preset(spec["preset"]).with_domains(spec["domains"])
    outputs = 256 if space.model == "decoder" else 2
    return space.for_interface(BytesInterface(context_length=spec["context_length"], outputs=outputs))


def homogeneous_grid(space: SearchSpace) -> list[Architecture]:
    """Every architecture of the space whose layers are equal."""
    genes = [gene for gene in space.genes() if gene.layer in (None, 0) and len(gene.options) > 1]
    found: dict[str, Architecture] = {}
    depth = max(space.domains.num_layers)

    def fill(index: int, genotype: dict[str, Any]) -> None:
        if index == len(genes):
            architecture = space.decode(genotype)
            found.setdefault(architecture.id, architecture)
            return
        gene = genes[index]
        names = [gene.name] if gene.layer is None else [f"layer{layer}.{gene.key}" for layer in range(depth)]
        for option in gene.options:
            fill(index + 1, {**genotype, **dict.fromkeys(names, option)})

    fill(0, {})
    return list(found.values())


def hwgpt_features(architecture: Architecture) -> list[float]:
    """Per width: depth, moments over the depth of heads (0, 1, 2) and of feed-forward ratios, products."""
    widths = sorted(_HEADS)
    heads = [
        _HEADS[architecture.d_model].index(int(getattr(layer.mixer, "num_heads", 0)))
        for layer in architecture.layers
    ]
    ratios = [getattr(layer.feed_forward, "d_ff", 0) / architecture.d_model for layer in architecture.layers]
    return hwgpt_row(widths, architecture.d_model, heads, ratios)


def hwgpt_row(
    widths: Sequence[int], width: int, heads: Sequence[float], ratios: Sequence[float]
) -> list[float]:
    """Of the widths of one size, three by three, this one's features; zeros elsewhere."""
    depth = len(heads)
    place = 2 * (np.arange(depth) + 0.5) / depth - 1
    curves = [np.polynomial.legendre.Legendre.basis(degree)(place) for degree in range(4)]
    h = [float(np.mean(curve * (np.array(heads) - 1.0))) for curve in curves]
    m = [float(np.mean(curve * (np.array(ratios) - 3.0))) for curve in curves]
    centred = depth - {12: 11, 24: 23, 36: 35}[_deepest(width)]
    base = [1.0, centred, *h, *m, centred * h[0], centred * m[0], h[0] * m[0], h[0] ** 2, m[0] ** 2]
    row: list[float] = []
    for other in _family(widths, width):
        row += base if other == width else [0.0] * len(base)
    return row


_HEADS = {
    192: (4, 8, 12), 384: (4, 8, 12), 768: (4, 8, 12),
    256: (8, 12, 16), 512: (8, 12, 16), 1024: (8, 12, 16),
    320: (8, 16, 20), 640: (8, 16, 20), 1280: (8, 16, 20),
}  # fmt: skip
"""Width -> numbers of heads of the source's options 0, 1, 2."""
_SIZES = ((192, 384, 768), (256, 512, 1024), (320, 640, 1280))


def _family(widths: Sequence[int], width: int) -> tuple[int, int, int]:
    return next(size for size in _SIZES if width in size and width in widths)


def _deepest(width: int) -> int:
    return dict(zip(_SIZES, (12, 24, 36), strict=True))[_family(sorted(_HEADS), width)]


def lts_features(architecture: Architecture) -> list[float]:
    """Logarithms of depth, width and of the weights of the two halves of all blocks."""
    hidden = [getattr(layer.feed_forward, "d_ff", 0) for layer in architecture.layers]
    return lts_row(len(architecture.layers), architecture.d_model, hidden)


def lts_row(depth: int, width: int, hidden: Sequence[int]) -> list[float]:
    attention, feed_forward = 4 * depth * width**2, 2 * width * sum(hidden)
    size = math.log(attention + feed_forward) - 16
    return [size, size**2, math.log(depth / 8), math.log(width / 256), math.log(feed_forward / attention)]


FEATURES: Mapping[str, Callable[[Architecture], list[float]]] = {
    "hwgpt": hwgpt_features,
    "lts": lts_features,
}


def flexibert_genotype(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of the table as genes of preset `flexibert`; an idle feed-forward width has its default."""
    hidden = int(row["hidden"])
    layers = row["layers"].split("|")
    genotype: dict[str, Any] = {"num_layers": len(layers), "d_model": hidden}
    for index, text in enumerate(layers):
        kind, parameter, heads, ff_dim, ff_count = text.split(":")
        at = f"layer{index}."
        genotype[at + "heads"] = int(heads)
        genotype[at + "num_hidden"] = int(ff_count)
        genotype[at + "ff_ratio"] = int(ff_dim) / hidden if ff_count != "1" else 4
        if kind == "SA":
            genotype |= {at + "mixer": "softmax", at + "score": parameter.lower()}
        elif kind == "LT":
            genotype[at + "mixer"] = parameter.lower()
        else:
            genotype |= {at + "mixer": "dynconv", at + "dynconv_width": int(parameter)}
    return genotype


def flexibert_values(row: Mapping[str, str], spec: Mapping[str, Any]) -> tuple[float, ...]:
    """Error over the four tasks with steady scores (percent), and the second objective's column."""
    steady = np.mean([float(row[task]) for task in ("mnli", "qnli", "qqp", "sst")])
    return (100.0 - float(steady), float(row[spec["objectives"][1]["column"]]))


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, packed by gzip or not."""
    packed = path.read_bytes()
    text = gzip.decompress(packed) if path.suffix == ".gz" else packed
    return list(csv.DictReader(io.StringIO(text.decode())))
