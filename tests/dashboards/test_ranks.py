"""Rank changes and ties of finalists, in sentences."""

from typing import Any

from dashboards.ranks import rank_words
from search.records import JobRecord


def job(ranks: dict[str, Any] | None) -> JobRecord:
    fields: dict[str, Any] = dict.fromkeys(JobRecord.__dataclass_fields__)
    return JobRecord(**{**fields, "indicators": {"final_ranks": ranks} if ranks else {}})


def test_changes_ties_and_mixed_budgets_are_told() -> None:
    finalists = [
        {"trial": 5, "search_rank": 3, "final_rank": 1, "tied_with": []},
        {"trial": 3, "search_rank": 1, "final_rank": 2, "tied_with": [-2]},
        {"trial": -2, "search_rank": 2, "final_rank": 3, "tied_with": [3]},
    ]
    budgets = {"finalists": [2000], "others": [300]}
    ranks = {"finalists": finalists, "changed": 3, "tau": -1 / 3, "budgets": budgets}
    assert rank_words(job(ranks)) == [
        "3 of 3 retrained have another rank by quality, Kendall's tau -0.33.",
        "Moved by more than one place: 5 from 3 to 1.",
        "Ties, means that the seeds do not tell apart: 3 and R2.",
        "The front mixes budgets: finalists have 2,000 steps, the others 300.",
    ]


def test_nothing_is_said_before_there_are_finalists() -> None:
    assert rank_words(job(None)) == []
