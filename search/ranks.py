"""How the order of finalists changed from the search to their full budget, and which of them are ties.

    tied: |mean_a - mean_b| <= sqrt(h_a^2 + h_b^2),   h half of the 95 % t-interval of each mean over seeds

Ranks are by quality, 1 the best; the search's number is of one short training, the one that the finalist was
chosen by. tau is Kendall's, over all finalists: 1 where the search had their order right.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import scipy

from .objectives import OBJECTIVES
from .records import TrialRecord


def final_ranks(trials: Sequence[TrialRecord], objectives: Sequence[str]) -> dict[str, Any] | None:
    """What `indicators` says of finalists, as JSON; None without two of them.

    `finalists`: trial, search_rank, final_rank, tied_with (trials), best first. `changed`: how many have
    another rank. `tau`. `budgets`: training steps of finalists, and of the others that stay on the front.
    """
    quality = OBJECTIVES[objectives[0]]
    rows = [one for one in trials if one.final and quality.key in one.values.keys() & one.final.values.keys()]
    if len(rows) < 2:
        return None
    before = {one.number: quality.minimised(one.values[quality.key]) for one in rows}
    after = {one.number: quality.minimised(one.effective[quality.key]) for one in rows}
    ranks = {name: _ranks(values) for name, values in (("search", before), ("final", after))}
    tau = scipy.stats.kendalltau(list(before.values()), list(after.values())).statistic
    ordered = sorted(rows, key=lambda one: ranks["final"][one.number])
    others = [one for one in trials if one.on_front and not one.final and one.number >= 0]
    return {
        "finalists": [
            {
                "trial": one.number,
                "search_rank": ranks["search"][one.number],
                "final_rank": ranks["final"][one.number],
                "tied_with": [
                    other.number for other in ordered if other is not one and tied(one, other, quality.key)
                ],
            }
            for one in ordered
        ],
        "changed": sum(ranks["search"][number] != rank for number, rank in ranks["final"].items()),
        "tau": float(tau) if math.isfinite(tau) else None,
        "budgets": {
            "finalists": sorted({one.final.steps for one in rows if one.final}),
            "others": sorted({one.steps for one in others}),
        },
    }


def tied(one: TrialRecord, other: TrialRecord, key: str) -> bool:
    """Whether the seeds do not tell two means apart; False where one of them has a single seed."""
    spreads = [trial.final.spread.get(key) if trial.final else None for trial in (one, other)]
    halves = [(spread.high - spread.low) / 2 for spread in spreads if spread is not None]
    if len(halves) < 2:
        return False
    return abs(one.effective[key] - other.effective[key]) <= math.hypot(*halves)


def _ranks(values: Mapping[int, float]) -> dict[int, int]:
    """1 for the smallest; equal values in the order of their numbers."""
    ordered = sorted(values, key=lambda number: (values[number], abs(number)))
    return {number: rank for rank, number in enumerate(ordered, start=1)}
