from dataclasses import replace

from dashboards.pages.job import job_page
from dashboards.pages.view import view
from dashboards.proxy_table import line_words, proxy_rows, waiting_words
from search.records import JobRecord, TrialRecord
from search.verdicts import LINE_KEY, ProxyVerdict, storable

FOUND = [
    ProxyVerdict("w_pca", "useful", 21, 0.61, 0.44, 0.5, 0.2, 0.72),
    ProxyVerdict("zico", "wrong sign", 21, 0.31, 0.44, -0.4, -0.7, -0.11),
    ProxyVerdict("params_total", "no evidence", 21, 0.44, 0.44, None, None, None),
]


def judged(job: JobRecord) -> JobRecord:
    return replace(job, context={**job.context, **storable(FOUND, 21)})


def test_verdicts_stand_beside_the_parameter_count(job: JobRecord) -> None:
    useful, wrong, nothing = proxy_rows(judged(job))
    assert (useful.verdict, useful.tau, useful.params_tau, useful.interval) == (
        "useful", "+0.61", "+0.44", "+0.20 to +0.72",
    )  # fmt: skip
    assert (useful.tone, wrong.tone, nothing.tone) == ("good", "bad", "")
    assert "left out of the standing" in wrong.meaning
    assert (nothing.partial, nothing.interval) == ("-", "")


def test_a_job_without_verdicts_says_what_they_wait_for(job: JobRecord) -> None:
    assert proxy_rows(job) == []
    assert waiting_words([]) == "Known once 15 trainings that a proxy has screened are finished."
    assert waiting_words(proxy_rows(judged(job))) == ""


def test_the_page_shows_the_table_and_hides_it_where_no_proxy_screens(
    job: JobRecord, trials: list[TrialRecord], references: list[TrialRecord]
) -> None:
    def page(own: JobRecord) -> str:
        return job_page(own, view(own, trials, references))

    with_table = page(judged(job))
    assert 'data-fragment="proxies"' in with_table
    assert '<b class="verdict bad">wrong sign</b>' in with_table
    spec = {**job.spec, "proxies": []}
    assert 'data-fragment="proxies"' not in page(replace(job, spec=spec))


def test_the_line_of_the_screen_is_told_once_there_is_one(job: JobRecord) -> None:
    assert line_words(job) == ""
    line = {"trainings": 24, "tau": 0.41, "weights": {"log_params": 0.2, "zico": -0.1}}
    words = line_words(replace(job, context={**job.context, LINE_KEY: line}))
    assert "24 trainings" in words
    assert "tau +0.41" in words
    assert "log params +0.20, zico -0.10" in words
    useless = replace(job, context={**job.context, LINE_KEY: {**line, "tau": -0.1}})
    assert "no better than chance" in line_words(useless)
