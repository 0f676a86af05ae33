"""Mean rank of each member of a population over several proxies.

    S(a) = mean of rank_k(a) over the proxies k that a has; ranks from 1, the best, ties share their mean

Ranks, because proxies differ by orders of magnitude. They change with the population: compare within a call.
"""

import math
import statistics
from collections.abc import Sequence


def average_ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1 for the largest value; ties share their mean; values that are not finite share the end.

    >>> average_ranks([3.0, 1.0, 3.0, float("nan"), float("inf")])
    [1.5, 3.0, 1.5, 4.5, 4.5]
    """
    keys = [value if math.isfinite(value) else -math.inf for value in values]
    ordered = sorted(keys, reverse=True)
    first = {key: index for index, key in reversed(list(enumerate(ordered)))}
    last = {key: index for index, key in enumerate(ordered)}
    return [1 + (first[key] + last[key]) / 2 for key in keys]


def mean_ranks(columns: Sequence[Sequence[float | None]]) -> list[float]:
    """Mean rank per member, 1 the best; a column holds one proxy's values, larger is better.

    None: the member has no such proxy, which speaks neither for nor against it. The ranks of a column with
    gaps are stretched to the whole population; a member without any proxy gets the middle rank.
    """
    population = len(columns[0]) if columns else 0
    ranks: list[list[float]] = [[] for _ in range(population)]
    for column in columns:
        present = [(index, value) for index, value in enumerate(column) if value is not None]
        for (index, _), rank in zip(present, average_ranks([value for _, value in present]), strict=True):
            ranks[index].append((rank - 0.5) / len(present) * population + 0.5)
    return [statistics.fmean(own) if own else (population + 1) / 2 for own in ranks]
