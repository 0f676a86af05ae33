from collections.abc import Callable

from dashboards import jobs_page
from dashboards.summary import gain_words
from search.records import JobRecord, Page


def test_an_empty_list_shows_the_command_and_runs_the_example() -> None:
    html = jobs_page(Page([], None), {}, csrf="t", example="name: quick & small\n")
    assert "paretoformer search examples/quickstart.yaml" in html
    assert 'action="/jobs/new"' in html
    assert 'name="yaml" value="name: quick &amp; small\n"' in html


def test_a_filter_without_a_match_is_not_an_empty_service() -> None:
    html = jobs_page(Page([], None), {"completed": 3}, state="failed")
    assert "No job matches" in html
    assert "Run the example" not in html


def test_jobs_show_state_gain_and_the_next_page(job: JobRecord, new_job: Callable[..., JobRecord]) -> None:
    html = jobs_page(
        Page([job, new_job(state="running")], "a b"), {"completed": 1, "running": 1}, query="x&y"
    )
    assert gain_words(job.indicators["hypervolume_gain"]) in html
    assert 'class="chip running"' in html
    assert "cursor=a%20b&amp;query=x%26y" in html
    assert "all 2" in html


def test_a_job_shows_its_progress_and_how_its_front_grew(
    job: JobRecord, new_job: Callable[..., JobRecord]
) -> None:
    html = jobs_page(Page([job, new_job(id="f" * 32)], None), {"completed": 2}, ended={job.id: 6})
    assert "6 of 24 trials" in html
    assert 'aria-valuenow="25"' in html
    assert "0 of 24 trials" in html
    assert html.count('class="spark"') == 1


def test_filters_keep_each_other_and_later_pages_lead_back(job: JobRecord) -> None:
    html = jobs_page(Page([job], None), {"completed": 1}, state="completed", query="a&b", is_first=False)
    assert 'href="/?state=completed&amp;query=a%26b"' in html
    assert 'href="/?query=a%26b"' in html
    assert "Newest jobs" in html
    assert "Newest jobs" not in jobs_page(Page([job], None), {"completed": 1})


def test_only_a_list_with_unfinished_jobs_refreshes(
    job: JobRecord, new_job: Callable[..., JobRecord]
) -> None:
    assert "data-refresh-every" not in jobs_page(Page([job], None), {"completed": 1})
    assert "data-refresh-every" in jobs_page(Page([new_job(state="queued")], None), {"queued": 1})
