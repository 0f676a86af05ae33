from dataclasses import replace

import numpy as np
import pytest

from evaluators.training.tasks.listops import (
    FULL,
    MINI,
    Size,
    evaluated,
    listops,
    symbols,
    trees,
)

SMALL = replace(MINI, counts=(300, 40, 60), drawn=1500)


def _texts(size: Size) -> list[tuple[list[str], int]]:
    tokens, values = trees(size, np.random.default_rng(1))
    names = symbols()
    return [
        ([names[token] for token in row if token], int(value))
        for row, value in zip(tokens, values, strict=True)
    ]


@pytest.mark.parametrize("size", [SMALL, replace(FULL, drawn=300)], ids=["mini", "full"])
def test_results_are_those_of_the_written_tree(size: Size) -> None:
    found = _texts(size)
    assert len(found) > 20
    assert all(evaluated(text) == value for text, value in found)
    assert all(size.shortest <= len(text) <= size.longest for text, _ in found)


def test_trees_are_as_deep_and_as_wide_as_allowed() -> None:
    deepest = widest = 0
    for text, _ in _texts(SMALL):
        arguments: list[int] = []
        for symbol in text:
            if symbol == "]":
                widest = max(widest, arguments.pop())
            elif arguments:
                arguments[-1] += 1
            if symbol.startswith("["):
                arguments.append(0)
            deepest = max(deepest, len(arguments))
    assert (deepest, widest) == (SMALL.max_depth - 1, SMALL.max_args)  # the last depth has digits only


def test_the_definition_by_hand() -> None:
    assert (
        evaluated(
            ["[MAX", "4", "3", "[MIN", "2", "3", "]", "1", "0", "[MED", "1", "5", "8", "9", "2", "]", "]"]
        )
        == 5
    )
    assert evaluated(["[SM", "9", "8", "[MED", "1", "4", "]", "]"]) == 9


def test_examples_are_distinct_and_the_same_every_time() -> None:
    data = listops("small", SMALL)
    rows = np.concatenate([data.part(name).inputs for name in ("train", "validation", "test")])
    assert [len(data.part(name)) for name in ("train", "validation", "test")] == [300, 40, 60]
    assert len(np.unique(rows, axis=0)) == 400
    assert listops("small", SMALL).digest == data.digest
    assert (data.vocab_size, data.outputs, data.model) == (16, 10, "encoder")
    assert data.examples("train", np.arange(2))[0].dtype == np.int64


def test_no_result_is_much_likelier_than_published() -> None:
    """The majority class of the Arena's data is about 0.17."""
    _, values = trees(replace(FULL, drawn=4000), np.random.default_rng(0))
    assert 0.12 < np.bincount(values).max() / len(values) < 0.22
