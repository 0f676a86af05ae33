"""The filters of a search in words."""

from dataclasses import replace
from typing import Any

from dashboards.filter_table import filter_rows
from dashboards.summary import demonstration
from search.records import JobRecord


def with_cascade(job: JobRecord, *rows: dict[str, Any]) -> JobRecord:
    return replace(job, indicators={**job.indicators, "cascade": list(rows)})


SCREEN = {
    "filter": "screen", "seen": 1200, "passed": 300, "pass_rate": 0.25, "precision": 0.62, "low": 0.41,
    "high": 0.8, "pairs": 97,
}  # fmt: skip
UNKNOWN = {**SCREEN, "filter": "rung of 75 steps", "precision": None, "low": None, "high": None, "pairs": 0}


def test_a_filter_says_what_it_lets_through_and_how_often_it_is_right(job: JobRecord) -> None:
    screen, rung = filter_rows(with_cascade(job, SCREEN, UNKNOWN))
    assert (screen.passed, screen.rate, screen.precision) == ("300 of 1,200", "25 %", "62 %")
    assert screen.interval == "41 % to 80 %"
    assert (rung.precision, rung.interval) == ("not known", "")
    assert "promoted" in rung.meaning


def test_an_older_job_has_no_filters(job: JobRecord) -> None:
    assert filter_rows(replace(job, indicators={})) == []


def test_a_job_without_training_says_it_is_unvalidated(job: JobRecord) -> None:
    free = replace(job, objectives=("proxy_score", "latency_s"))
    assert demonstration(free, []).startswith("Unvalidated: nothing was trained")
