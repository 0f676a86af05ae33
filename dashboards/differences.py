"""What differs between architectures: genes of the model, and genes of layers that stand for each other.

Works on the JSON form, over whatever fields there are. Layers are matched so that as few genes as possible
differ (edit distance: a pair costs its share of differing genes, a layer without a partner `GAP`).
Source: Needleman and Wunsch 1970, doi:10.1016/0022-2836(70)90057-4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from .architecture_words import part_words, value_words

GAP = 0.6
"""Over half of a pair in which everything differs: two such layers are one changed layer, not two."""
MISSING = "–"
OUTSIDE = ("version", "layers")

KEY_WORDS: Mapping[str, str] = {
    "d_model": "width",
    "d_ff": "width",
    "feed_forward": "feed-forward",
    "num_heads": "heads",
    "num_kv_heads": "heads of keys and values",
}
"""Of the others the name says it."""

Architecture = Mapping[str, Any]
Genes = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class GeneRow:
    """One choice in all architectures, in words; `differs` says which differ from the first one's."""

    name: str
    values: tuple[str, ...]
    differs: tuple[bool, ...]

    @property
    def is_different(self) -> bool:
        return any(self.differs)


@dataclass(frozen=True, slots=True)
class Section:
    """The model as a whole, or one layer: where it stands in each architecture, and its choices.

    `places` has `MISSING` where an architecture has no such layer.
    """

    name: str
    places: tuple[str, ...]
    rows: tuple[GeneRow, ...]

    @property
    def is_different(self) -> bool:
        return MISSING in self.places or any(row.is_different for row in self.rows)

    @property
    def different(self) -> tuple[GeneRow, ...]:
        """Every row of a layer that is missing somewhere: what one has and the other lacks."""
        return self.rows if MISSING in self.places else tuple(row for row in self.rows if row.is_different)

    @property
    def same(self) -> int:
        return len(self.rows) - len(self.different)


def sections(architectures: Sequence[Architecture]) -> list[Section]:
    """The model's choices, then layer after layer, each compared with the first architecture."""
    models = [_said({key: one[key] for key in one if key not in OUTSIDE}) for one in architectures]
    found = [Section("model", ("",) * len(models), _rows(models))]
    for indices in matched(architectures):
        layers = [
            None if index is None else _said(one["layers"][index])
            for one, index in zip(architectures, indices, strict=True)
        ]
        places = tuple(MISSING if index is None else f"layer {index + 1}" for index in indices)
        name = places[0] if places[0] != MISSING else "another layer"
        found.append(Section(name, places, _rows(layers)))
    return found


def matched(architectures: Sequence[Architecture]) -> list[tuple[int | None, ...]]:
    """Rows of layer indices that stand for each other; None where an architecture has no such layer."""
    first, *others = [one["layers"] for one in architectures]
    rows: list[list[int | None]] = [[index, *([None] * len(others))] for index in range(len(first))]
    extra: dict[int, list[list[int | None]]] = {}
    for column, layers in enumerate(others, start=1):
        before = 0
        used: dict[int, int] = {}
        for own, other in aligned(first, layers):
            if own is not None:
                rows[own][column] = other
                before = own + 1
            elif other is not None:
                place = extra.setdefault(before, [])
                if used.get(before, 0) == len(place):
                    place.append([None] * (len(others) + 1))
                place[used.get(before, 0)][column] = other
                used[before] = used.get(before, 0) + 1
    found: list[tuple[int | None, ...]] = []
    for index in range(len(first) + 1):
        found += [tuple(row) for row in extra.get(index, ())]
        if index < len(first):
            found.append(tuple(rows[index]))
    return found


def aligned(
    own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> list[tuple[int | None, int | None]]:
    """Pairs of indices in order, the cheapest way. O(len(own) len(other)) comparisons of layers."""
    mine, theirs = [layer_genes(one) for one in own], [layer_genes(one) for one in other]

    @cache
    def pair(i: int, j: int) -> float:
        return _distance(mine[i], theirs[j])

    cost = [[GAP * (i + j) for j in range(len(theirs) + 1)] for i in range(len(mine) + 1)]
    for i in range(1, len(mine) + 1):
        for j in range(1, len(theirs) + 1):
            cost[i][j] = min(
                cost[i - 1][j - 1] + pair(i - 1, j - 1), cost[i - 1][j] + GAP, cost[i][j - 1] + GAP
            )
    steps: list[tuple[int | None, int | None]] = []
    i, j = len(mine), len(theirs)
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + pair(i - 1, j - 1):
            i, j = i - 1, j - 1
            steps.append((i, j))
        elif i and cost[i][j] == cost[i - 1][j] + GAP:
            i -= 1
            steps.append((i, None))
        else:
            j -= 1
            steps.append((None, j))
    return steps[::-1]


def changed_parts(architectures: Sequence[Architecture], column: int) -> dict[int, tuple[str, ...]]:
    """Layer index of one architecture -> the parts that differ from the first one's layer.

    For the first itself: from any of the others'.
    """
    marks: dict[int, tuple[str, ...]] = {}
    for indices in matched(architectures):
        index = indices[column]
        if index is None:
            continue
        own = architectures[column]["layers"][index]
        rivals = range(1, len(architectures)) if column == 0 else (0,)
        words: dict[str, None] = {}
        for rival in rivals:
            place = indices[rival]
            if place is None:
                words["only here" if column else "not in all"] = None
            else:
                words |= dict.fromkeys(_parts(own, architectures[rival]["layers"][place]))
        if words:
            marks[index] = tuple(words)
    return marks


def changes(parent: Architecture, child: Architecture) -> list[str]:
    """Every changed gene as a sentence part, for lineage.

    >>> layers = [{"mixer": {"kind": "pool", "width": 3}}]
    >>> changes({"d_model": 32, "layers": layers}, {"d_model": 64, "layers": []})
    ['width 32 → 64', 'layer 1 removed']
    """
    found = _sentences(model_genes(parent), model_genes(child))
    for own, other in aligned(parent["layers"], child["layers"]):
        if other is None:
            assert own is not None
            found.append(f"layer {own + 1} removed")
        elif own is None:
            found.append(f"layer {other + 1} added")
        else:
            changed = _sentences(layer_genes(parent["layers"][own]), layer_genes(child["layers"][other]))
            found += [f"layer {other + 1}: {words}" for words in changed]
    return found


def _sentences(before: Genes, after: Genes) -> list[str]:
    return [
        f"{row.name} {row.values[0]} → {row.values[1]}" for row in _rows([before, after]) if row.is_different
    ]


def model_genes(architecture: Architecture) -> dict[str, str]:
    """Everything outside the layers, flat: `position kind` -> `rope`."""
    return _flat({key: value for key, value in architecture.items() if key not in OUTSIDE})


def layer_genes(layer: Mapping[str, Any]) -> dict[str, str]:
    """One layer, flat: `mixer num heads` -> `4`."""
    return _flat(layer)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, inner in value.items():
        words = f"{prefix} {_word(key)}".strip()
        if isinstance(inner, Mapping):
            found |= _flat(inner, words)
        else:
            found[words.removesuffix(" kind") or words] = value_words(inner)
    return found


def _said(value: Mapping[str, Any]) -> dict[str, str]:
    """Top-level choices in words: `mixer` -> `softmax attention, 4 heads`."""
    return {_word(key): part_words(key, inner) for key, inner in value.items()}


def _rows(columns: Sequence[Genes | None]) -> tuple[GeneRow, ...]:
    names = dict.fromkeys(name for column in columns if column is not None for name in column)
    rows = []
    for name in names:
        values = tuple(MISSING if column is None else column.get(name, MISSING) for column in columns)
        differs = tuple(
            column is not None and columns[0] is not None and value != values[0]
            for column, value in zip(columns, values, strict=True)
        )
        rows.append(GeneRow(name, values, differs))
    return tuple(rows)


def _distance(one: Genes, other: Genes) -> float:
    names = set(one) | set(other)
    return sum(one.get(name) != other.get(name) for name in names) / max(1, len(names))


def _parts(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys([*one, *other])
    return [_word(name) for name in names if one.get(name) != other.get(name)]


def _word(key: str) -> str:
    return KEY_WORDS.get(key, key.replace("_", " "))
