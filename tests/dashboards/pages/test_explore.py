import json
import re

from dashboards import explore_chart, explore_page, read_selection
from search.records import JobRecord, TrialRecord

Trials = list[TrialRecord]
QUERY = [("max.latency_s", "0.6"), ("in.number_format", "int8")]


def embedded(html: str) -> dict[str, object]:
    (text,) = re.findall(r'id="explore-data">(.*?)</script>', html, flags=re.S)
    found: dict[str, object] = json.loads(text)
    return found


def test_the_page_has_every_row_and_the_table_what_is_admitted(job: JobRecord, trials: Trials) -> None:
    html = explore_page(job, trials, len(trials), QUERY, read_selection(job))
    data = embedded(html)
    assert len(data["rows"]) == len(trials)  # type: ignore[arg-type]
    listed = [int(number) for number in re.findall(rf"/jobs/{job.id}/trials/(-?\d+)", html)]
    rows = [str(row[0]) for row in explore_chart(job, trials, QUERY).rows]
    assert sorted(map(str, listed)) == sorted(rows) != []
    assert f"{len(rows)} of {len(trials)} match" in html


def test_the_form_shows_the_filters_of_the_address(job: JobRecord, trials: Trials) -> None:
    html = explore_page(job, trials, len(trials), QUERY, read_selection(job, x="params"))
    assert 'name="max.latency_s" value="0.6"' in html
    assert 'name="in.number_format" value="int8" checked' in html
    assert 'name="in.number_format" value="fp32">' in html
    assert '<option value="params" selected>' in html
    assert "explore.csv?max.latency_s=0.6&amp;in.number_format=int8" in html


def test_a_larger_job_says_what_is_shown_of_it(job: JobRecord, trials: Trials) -> None:
    html = explore_page(job, trials, 100_000, [], read_selection(job))
    assert f"shown of {len(trials)} trials" in html
    assert embedded(html)["total"] == 100_000


def test_a_job_without_trials_has_an_empty_table(job: JobRecord) -> None:
    html = explore_page(job, [], 0, [], read_selection(job))
    assert "No trial matches these filters." in html
