"""The filters of a search as a table: what each lets through, and how often it is right."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.records import JobRecord

MEANING: Mapping[str, str] = {
    "closed form": "within the static limits, and new",
    "screen": "kept for its proxies and predicted latency; one in ten is tried though dropped, to judge this",
    "measured": "could join the front by what is predicted; judged by who did",
}
RUNG = "trained on; judged by who was promoted before falling behind"


@dataclass(frozen=True, slots=True)
class FilterRow:
    """One filter in words."""

    name: str
    meaning: str
    passed: str
    rate: str
    precision: str
    interval: str
    pairs: int


def filter_rows(job: JobRecord) -> list[FilterRow]:
    """In the order of the search; none before the references have ended, or in an older job."""
    return [_row(one) for one in job.indicators.get("cascade") or ()]


def _row(one: Mapping[str, Any]) -> FilterRow:
    name = str(one["filter"])
    return FilterRow(
        name=name,
        meaning=MEANING.get(name, RUNG),
        passed=f"{one['passed']:,} of {one['seen']:,}",
        rate=_percent(one["pass_rate"]),
        precision=_percent(one["precision"]),
        interval="" if one["low"] is None else f"{_percent(one['low'])} to {_percent(one['high'])}",
        pairs=int(one["pairs"]),
    )


def _percent(share: float | None) -> str:
    """
    >>> _percent(0.256), _percent(None)
    ('26 %', 'not known')
    """
    return "not known" if share is None else f"{100 * share:.0f} %"
