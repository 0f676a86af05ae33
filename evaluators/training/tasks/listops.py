"""`listops`, `listops-mini`: nested operations on digits, written out; the class is the result.

    [MAX 4 3 [MIN 2 3 ] 1 0 [MED 1 5 8 9 2 ] ]  ->  5

MIN, MAX, MED (the median, cut to an integer) and SM (the sum modulo 10). A place above the largest depth is
an operation with probability 1/4, with 2 to `max_args` arguments, each equally likely; else a digit. An
operation is as long as its arguments and 2. Trees of a length in the open interval are kept, every tree once.
Source: Nangia & Bowman 2018, arXiv:1804.06028; sizes of Tay et al. 2020, arXiv:2011.04006 (Long Range Arena),
where the best transformers of the time reach an error of 0.63. The closing bracket is a symbol of its own:
without it the task cannot be solved. Shorter inputs are filled with token 0, an ordinary token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..data import Part, TaskData, TaskKind
from ..task import Task

FILL, FIRST_DIGIT, FIRST_OPERATOR, CLOSE = 0, 1, 11, 15
OPERATORS = ("MIN", "MAX", "MED", "SM")
VOCAB_SIZE = 16
OPERATION_ODDS = 0.25
SEED = 0

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Size:
    """Which trees."""

    max_depth: int
    max_args: int
    shortest: int
    longest: int
    counts: tuple[int, int, int]
    """Training, validation and test examples."""
    drawn: int
    """Trees drawn at a time; part of the data, as it orders the random numbers."""


FULL = Size(max_depth=10, max_args=10, shortest=501, longest=1999, counts=(96_000, 2000, 2000), drawn=20_000)
MINI = Size(max_depth=6, max_args=5, shortest=33, longest=127, counts=(20_000, 2000, 2000), drawn=20_000)


class ListOps(Task):
    """Up to 1,999 symbols -> a digit."""

    kind: ClassVar[TaskKind] = "sequence"
    summary: ClassVar[str] = "nested operations on digits, 501 to 1,999 symbols; a benchmark"
    source: ClassVar[str] = "generated (Tay et al. 2020, arXiv:2011.04006)"
    is_costly: ClassVar[bool] = True

    def prepare(self, length: int | None) -> TaskData:
        return listops("listops", FULL)


class ListOpsMini(Task):
    """Up to 127 symbols -> a digit."""

    kind: ClassVar[TaskKind] = "sequence"
    summary: ClassVar[str] = "nested operations on digits, 33 to 127 symbols"
    source: ClassVar[str] = "generated (after Tay et al. 2020, arXiv:2011.04006)"

    def prepare(self, length: int | None) -> TaskData:
        return listops("listops-mini", MINI)


def listops(name: str, size: Size) -> TaskData:
    """Distinct trees as a task, in the order they were drawn."""
    total = sum(size.counts)
    rows, labels = np.zeros((total, size.longest), np.uint8), np.zeros(total, np.int64)
    seen: set[bytes] = set()
    for tokens, values in _batches(size):
        for row, value in zip(tokens, values, strict=True):
            if len(seen) < total and (key := row.tobytes()) not in seen:
                rows[len(seen)], labels[len(seen)] = row, value
                seen.add(key)
        if len(seen) == total:
            break
    first, second = size.counts[0], size.counts[0] + size.counts[1]
    majority = np.bincount(labels[:first]).argmax()
    return TaskData(
        name=name,
        kind="sequence",
        train=Part(rows[:first], labels[:first]),
        validation=Part(rows[first:second], labels[first:second]),
        test=Part(rows[second:], labels[second:]),
        input="bytes",
        outputs=10,
        batch_size=64,
        vocab_size=VOCAB_SIZE,
        preprocessing={"symbols": symbols(), "fill": FILL, "vocab_size": VOCAB_SIZE},
        source={
            "split": f"distinct trees in drawn order, seed {SEED}",
            "majority_error": float((labels[first:second] != majority).mean()),
        },
    )


def symbols() -> list[str]:
    """What the token ids mean."""
    return ["", *map(str, range(10)), *(f"[{name}" for name in OPERATORS), "]"]


def _batches(size: Size) -> Iterator[tuple[NDArray[np.uint8], Ints]]:
    rng = np.random.default_rng(SEED)
    while True:
        yield trees(size, rng)


@dataclass(frozen=True, slots=True)
class _Level:
    """All places of one depth, tree by tree and from left to right."""

    tree: Ints
    arguments: Ints
    """Places below; 0: a digit."""


def trees(size: Size, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Ints]:
    """Symbols [kept, longest] and results of those of `size.drawn` random trees that are long enough and no
    longer.

    All trees grow together, depth by depth. The root is an operation: a digit alone is never kept.
    """
    levels = _kept(_grown(size, rng), size)
    count = len(levels[0].tree)
    tree = [np.searchsorted(levels[0].tree, level.tree) for level in levels]
    tokens = np.zeros((count, size.longest), np.uint8)
    chosen = [_chosen(level, rng) for level in levels]
    lengths, values = _results(levels, chosen)
    start = np.zeros(count, np.int64)
    for depth, level in enumerate(levels):
        tokens[tree[depth], start] = (
            np.where(level.arguments > 0, FIRST_OPERATOR, FIRST_DIGIT) + chosen[depth]
        )
        inner = level.arguments > 0
        tokens[tree[depth][inner], (start + lengths[depth] - 1)[inner]] = CLOSE
        if depth + 1 < len(levels):
            below = lengths[depth + 1]
            before = np.cumsum(below) - below
            groups = level.arguments[inner]
            first = np.cumsum(groups) - groups
            start = np.repeat(start[inner] + 1 - before[first], groups) + before
    return tokens, values


def _grown(size: Size, rng: np.random.Generator) -> list[_Level]:
    tree = np.arange(size.drawn)
    arguments = rng.integers(2, size.max_args + 1, size.drawn)
    levels = [_Level(tree, arguments)]
    for depth in range(2, size.max_depth + 1):
        tree = np.repeat(tree, arguments)
        if not len(tree):
            break
        arguments = np.zeros(len(tree), np.int64)
        if depth < size.max_depth:
            inner = rng.random(len(tree)) <= OPERATION_ODDS
            arguments[inner] = rng.integers(2, size.max_args + 1, int(inner.sum()))
        levels.append(_Level(tree, arguments))
    return levels


def _kept(levels: list[_Level], size: Size) -> list[_Level]:
    """Whole trees of the wanted lengths."""
    length = np.zeros(size.drawn, np.int64)
    for level in levels:
        weights = np.where(level.arguments > 0, 2, 1)
        length += np.bincount(level.tree, weights, minlength=size.drawn).astype(np.int64)
    keep = (length >= size.shortest) & (length <= size.longest)
    kept = [(level, keep[level.tree]) for level in levels]
    return [_Level(level.tree[chosen], level.arguments[chosen]) for level, chosen in kept if chosen.any()]


def _chosen(level: _Level, rng: np.random.Generator) -> Ints:
    """An operator for every operation, a digit for every other place."""
    draws = rng.random(len(level.tree))
    return (draws * np.where(level.arguments > 0, len(OPERATORS), 10)).astype(np.int64)


def _results(levels: list[_Level], chosen: list[Ints]) -> tuple[list[Ints], Ints]:
    """Length of what stands at every place, and the values of the roots, from the leaves up."""
    lengths: list[Ints] = []
    values = below = np.empty(0, np.int64)
    for level, choice in zip(reversed(levels), reversed(chosen), strict=True):
        inner = level.arguments > 0
        value, length = choice.copy(), np.ones(len(choice), np.int64)
        if inner.any():
            groups = level.arguments[inner]
            first = np.cumsum(groups) - groups
            value[inner] = _operated(choice[inner], values, groups, first)
            length[inner] = 2 + np.add.reduceat(below, first)
        values, below = value, length
        lengths.append(length)
    return lengths[::-1], values


def _operated(operators: Ints, values: Ints, groups: Ints, first: Ints) -> Ints:
    """Every operator on its group of consecutive values."""
    owner = np.repeat(np.arange(len(groups)), groups)
    ordered = values[np.lexsort((values, owner))]
    median = (ordered[first + (groups - 1) // 2] + ordered[first + groups // 2]) // 2
    results = (ordered[first], ordered[first + groups - 1], median, np.add.reduceat(values, first) % 10)
    return np.choose(operators, results)


def evaluated(text: list[str]) -> int:
    """The result of one written-out tree, by definition, symbol by symbol."""
    stack: list[tuple[str, list[int]]] = [("", [])]
    for symbol in text:
        if symbol.startswith("["):
            stack.append((symbol[1:], []))
        elif symbol == "]":
            operator, arguments = stack.pop()
            stack[-1][1].append(_applied(operator, sorted(arguments)))
        else:
            stack[-1][1].append(int(symbol))
    return stack[0][1][0]


def _applied(operator: str, ordered: list[int]) -> int:
    match operator:
        case "MIN":
            return ordered[0]
        case "MAX":
            return ordered[-1]
        case "MED":
            middle = len(ordered) // 2
            return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2
        case _:
            return sum(ordered) % 10
