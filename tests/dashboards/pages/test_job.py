import datetime as dt
import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from dashboards import job_page, view
from search.records import JobRecord, MeasurementRecord, TrialRecord

Trials = list[TrialRecord]


def test_a_view_is_plain_json_and_the_page_embeds_it(
    job: JobRecord, trials: Trials, references: Trials
) -> None:
    shown = view(job, trials, references, last_seq=41)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    html = job_page(job, shown)
    (embedded,) = re.findall(r'<script type="application/json" id="view">(.*?)</script>', html, flags=re.S)
    assert json.loads(embedded) == {name: part for name, part in shown.items() if name != "html"}
    assert shown["last_seq"] == 41


def test_every_fragment_of_a_view_has_its_place(job: JobRecord, trials: Trials, references: Trials) -> None:
    shown = view(job, trials, references)
    html = job_page(job, shown)
    assert set(re.findall(r'data-fragment="(\w+)"', html)) == set(shown["html"])
    assert set(re.findall(r'data-figure="(\w+)"', html)) == set(shown["figures"])


def test_the_table_links_exactly_the_front(job: JobRecord, trials: Trials, references: Trials) -> None:
    table = view(job, trials, references)["html"]["front_table"]
    linked = [int(number) for number in re.findall(rf"/jobs/{job.id}/trials/(-?\d+)", table)]
    front = sorted((t for t in trials if t.on_front), key=lambda t: t.values["latency_s"])
    assert linked == [trial.number for trial in front]


def test_references_link_to_negative_numbers(job: JobRecord, trials: Trials, references: Trials) -> None:
    table = view(job, trials, references)["html"]["reference_table"]
    assert f'href="/jobs/{job.id}/trials/-1"' in table
    assert "GPT-like, 2 layers of 48" in table
    assert "reference front" in table


@pytest.mark.parametrize(
    ("state", "offered"),
    [
        ("running", {"pause", "stop", "cancel"}),
        ("paused", {"resume", "stop", "cancel"}),
        ("completed", set()),
    ],
)
def test_only_possible_actions_are_offered(
    new_job: Callable[..., JobRecord], state: str, offered: set[str]
) -> None:
    job = new_job(state=state)
    html = job_page(job, view(job, [], []), csrf="t")
    forms = re.findall(r'data-action="(\w+)"( hidden)?', html)
    assert {action for action, hidden in forms if not hidden} == offered
    assert len(forms) == 4


def test_a_demonstration_says_so_and_warnings_are_shown_once(
    job: JobRecord, trials: Trials, references: Trials
) -> None:
    banners = view(job, trials, references, warnings=["low on disk", *job.context["warnings"]])["html"][
        "banners"
    ]
    assert "Demonstration, not a claim." in banners
    assert banners.count("bf16 is not real") == 1
    assert "low on disk" in banners


def test_a_failed_job_says_why(new_job: Callable[..., JobRecord]) -> None:
    job = new_job(state="failed", reason="infeasible", message="params=10 is below the smallest")
    banners = view(job, [], [])["html"]["banners"]
    assert "no architecture meets the constraints" in banners
    assert "params=10 is below the smallest" in banners


def test_the_latency_figure_appears_with_its_data(
    job: JobRecord,
    trials: Trials,
    references: Trials,
    measured: Callable[[TrialRecord], list[MeasurementRecord]],
) -> None:
    hidden = '<section class="card" hidden><div class="figure-head"><h2>Predicted and measured latency</h2>'
    assert hidden in job_page(job, view(job, trials, references))
    known = {trial.architecture_id: measured(trial) for trial in trials}
    assert hidden not in job_page(job, view(job, trials, references, measurements=known))


def test_a_live_page_listens_from_what_it_has_seen(
    new_job: Callable[..., JobRecord], now: dt.datetime
) -> None:
    job = new_job(state="running", ended_at=None)
    shown = view(job, [], [], last_seq=9, now=now)
    assert not shown["over"]
    assert f'data-job="/jobs/{job.id}"' in job_page(job, shown)


def test_finalists_replace_the_search_numbers(
    job: JobRecord, trials: Trials, references: Trials, finals: Callable[..., Trials]
) -> None:
    retrained = finals(trials)
    html = view(replace(job, stage="final"), retrained, references)["html"]
    assert "full budget" in html["finalists"]
    chosen = next(trial for trial in retrained if trial.final)
    assert chosen.final is not None
    assert f"{chosen.final.values['bits_per_byte']:.4g} bits" in html["front_table"]
