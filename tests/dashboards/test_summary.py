import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest

from dashboards import summary
from search.records import JobRecord, TrialRecord
from search.tally import tally_of

NewJob = Callable[..., JobRecord]


def test_progress_counts_what_has_ended(
    job: JobRecord, trials: list[TrialRecord], references: list[TrialRecord], now: dt.datetime
) -> None:
    running = replace(job, state="running", ended_at=None)
    half = [*trials[:11], replace(trials[11], state="running"), replace(trials[12], state="waiting")]
    state = summary.status(running, half, references, now)
    assert (state.done, state.budget, state.percent) == (11, 24, 46)
    assert state.references_done == state.references_total == len(references)
    assert state.elapsed == "for 8 min 0 s"
    assert state.left == "9 min 27 s"


def test_an_ended_job_has_no_time_left(job: JobRecord, trials: list[TrialRecord], now: dt.datetime) -> None:
    state = summary.status(job, trials, [], now + dt.timedelta(days=1))
    assert (state.percent, state.left, state.elapsed) == (100, "", "took 8 min 0 s")


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({}, ""),
        ({"finalists": [1, 2, -3]}, "0 of 3"),
        ({"finalists": [1, 2, -3], "finalist_trainings": [4, 9]}, "4 of 9 trainings of 3"),
    ],
)
def test_trainings_of_finalists_are_counted_while_none_has_its_means(
    new_job: NewJob, now: dt.datetime, context: dict[str, object], words: str
) -> None:
    assert summary.status(new_job(context=context), [], [], now).finalists == words


def test_after_the_search_progress_is_that_of_the_finalists(
    new_job: NewJob, trials: list[TrialRecord], now: dt.datetime
) -> None:
    context = {"search_ended": True, "finalists": [0, 1], "finalist_trainings": [2, 8]}
    job = replace(new_job(context=context), state="running", ended_at=None)
    state = summary.status(job, trials[:11], [], now)
    assert state.meaning.startswith("training the finalists")
    assert (state.percent, state.left) == (25, "")


def test_finalists_with_means_are_counted(
    new_job: NewJob, trials: list[TrialRecord], finals: Callable[..., list[TrialRecord]], now: dt.datetime
) -> None:
    job = new_job(context={"finalists": [0, 1], "finalist_trainings": [6, 6]})
    assert summary.status(job, finals(trials, 2, 150), [], now).finalists == "2 of 2"


def test_short_finalists_are_a_demonstration_and_long_ones_a_claim(
    new_job: NewJob, trials: list[TrialRecord], finals: Callable[..., list[TrialRecord]]
) -> None:
    job = new_job()
    assert "150 steps" in summary.demonstration(job, [])
    assert "999 steps" in summary.demonstration(job, finals(trials, 2, 999))
    assert summary.demonstration(job, finals(trials, 2, 1000)) == ""
    planned = {**job.spec, "finalists": {"count": 4, "seeds": 3, "steps": 2000}}
    assert summary.demonstration(replace(job, spec=planned), []) == ""
    none = {**job.spec, "finalists": {"count": 0, "seeds": 3, "steps": 2000}}
    assert "no finalists" in summary.demonstration(replace(job, spec=none), [])


def test_the_speed_up_carries_interval_trial_and_bound(new_job: NewJob) -> None:
    found = {"value": 1.5, "low": 1.4, "high": 1.6, "trial": 3, "lower_bound": True, "quality": "better"}
    job = new_job(indicators={"speedup_at_equal_quality": {**found, "against_fp32": {**found, "value": 2.5}}})
    (name, value, words), (other, more, _) = summary.speedup_lines(job)
    assert (name, value) == ("all references", "≥ 1.5×")
    assert words == "trial 3, 95 % interval 1.4× to 1.6×; at least, as it is better than every reference"
    assert (other, more) == ("fp32 references", "≥ 2.5×")


def test_a_speed_up_of_a_worse_trial_is_not_praised(new_job: NewJob) -> None:
    found = {"value": 4.0, "low": 3.9, "high": 4.1, "trial": 3, "lower_bound": False, "quality": "worse"}
    job = new_job(indicators={"speedup_at_equal_quality": found})
    stat = next(s for s in summary.stats(job, []) if s.name == "speed-up at equal quality")
    assert stat.tone == ""
    assert "less accurate than every reference" in stat.remark


def test_the_reading_that_counts_worse_trials_stands_last(new_job: NewJob) -> None:
    found = {"value": 1.2, "low": 1.1, "high": 1.3, "trial": 5, "lower_bound": False, "quality": "within"}
    wider = {**found, "value": 4.0, "trial": 3, "quality": "worse"}
    job = new_job(indicators={"speedup_at_equal_quality": {**found, "including_worse": wider}})
    assert [value for _, value, _ in summary.speedup_lines(job)] == ["1.2×", "4×"]


def test_without_indicators_every_number_is_a_dash(new_job: NewJob) -> None:
    assert [stat.value for stat in summary.stats(new_job(), [])] == ["0", "–", "–", "–", "–"]


def test_failures_are_grouped_by_cause_with_the_message(trials: list[TrialRecord]) -> None:
    lost = [replace(trials[0], number=90 + i, state="failed", reason="worker_lost") for i in range(2)]
    first, second = summary.failures(tally_of([*trials, *lost], []).failed)
    assert (first.reason, first.count) == ("worker_lost", 2)
    assert first.cases == (summary.Case("", 2, ((90, "90"), (91, "91"))),)
    assert second.reason == "diverged"
    assert second.cases == (summary.Case("loss is not finite at step 17", 1, ((22, "22"),)),)


def test_the_messages_of_a_cause_are_counted(trials: list[TrialRecord]) -> None:
    def failed(number: int, message: str) -> TrialRecord:
        return replace(trials[0], number=number, state="failed", reason="timeout", message=message)

    rows = [failed(i, "slow" if i % 3 else f"odd {i}") for i in range(30)]
    (cause,) = summary.failures(tally_of(rows, []).failed)
    assert cause.count == 30
    assert len(cause.cases) == summary.MAX_CASES
    assert (cause.cases[0].message, cause.cases[0].count) == ("slow", 20)
    assert len(cause.cases[0].trials) == summary.MAX_NAMED


def test_suggestions_come_with_reason_and_numbers(job: JobRecord, trials: list[TrialRecord]) -> None:
    found = summary.suggestions(job, trials)
    assert [one.number for one in found] == [item["trial"] for item in job.indicators["suggestions"]]
    assert all(one.reason and "latency" in one.numbers for one in found)


def test_conditions_name_device_data_and_seeds(job: JobRecord) -> None:
    rows = dict(summary.conditions(job))
    assert rows["data digest (SHA-256)"] == "9f" * 32
    assert rows["architectures in the space"] == "about 1.2e+17"
    assert rows["training of a trial"] == "38, 75, 150 steps, 1 seed"
    assert "onnxruntime 1.23.0" in rows["device and versions"]
    assert rows["target"].endswith("length 128")
