"""How finalists' order changed from the search to their full budget, in words."""

from collections.abc import Sequence
from typing import Any

from search.records import JobRecord


def rank_words(job: JobRecord) -> list[str]:
    """Sentences about rank changes, ties and budgets; none before two finalists are trained."""
    found = job.indicators.get("final_ranks")
    if not found:
        return []
    finalists, tau = found["finalists"], found["tau"]
    order = f", Kendall's tau {tau:.2f}" if tau is not None else ""
    words = [f"{found['changed']} of {len(finalists)} retrained have another rank by quality{order}."]
    moved = [one for one in finalists if abs(one["search_rank"] - one["final_rank"]) > 1]
    if moved:
        words.append("Moved by more than one place: " + ", ".join(_move(one) for one in moved) + ".")
    if ties := _pairs(finalists):
        words.append("Ties, means that the seeds do not tell apart: " + ", ".join(ties) + ".")
    budgets = found["budgets"]
    if budgets["others"] and budgets["others"] != budgets["finalists"]:
        words.append(
            f"The front mixes budgets: finalists have {_steps(budgets['finalists'])} steps, "
            f"the others {_steps(budgets['others'])}."
        )
    return words


def _move(one: dict[str, Any]) -> str:
    return f"{_label(one['trial'])} from {one['search_rank']} to {one['final_rank']}"


def _pairs(finalists: Sequence[dict[str, Any]]) -> list[str]:
    """Every pair once, the better one first."""
    seen: set[frozenset[int]] = set()
    pairs = []
    for one in finalists:
        for other in one["tied_with"]:
            pair = frozenset((one["trial"], other))
            if pair not in seen:
                seen.add(pair)
                pairs.append(f"{_label(one['trial'])} and {_label(other)}")
    return pairs


def _label(number: int) -> str:
    return f"R{-number}" if number < 0 else str(number)


def _steps(counts: Sequence[int]) -> str:
    return " and ".join(f"{count:,}" for count in counts)
