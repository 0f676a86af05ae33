from collections.abc import Callable
from dataclasses import replace

from dashboards.picks import limit_of, picks
from search.records import Final, JobRecord, TrialRecord

NewTrial = Callable[..., TrialRecord]


def test_picks_are_what_they_say(new_job: Callable[..., JobRecord], new_trial: NewTrial) -> None:
    anchor = new_trial(0, 2.5, 2e-3)
    candidates = [
        anchor,
        new_trial(1, 2.5, 1e-3),
        new_trial(2, 2.4, 1.5e-3),
        new_trial(3, 2.0, 2e-3),
        new_trial(4, 2.9, 0.5e-3),
        new_trial(-1, 2.45, 3e-3),
        new_trial(-2, 2.6, 1e-3),
    ]
    found = picks(new_job(), anchor, candidates, limit_s=0.7e-3)
    chosen = [pick.trial.number if pick.trial else None for pick in found]
    assert chosen == [1, 3, -1, 4]
    assert found[0].reason == "2× faster, at least as good"
    assert found[1].reason == "0.5 bits better, no slower"
    assert found[2].reason.endswith("trial 0 is 1.5× faster")


def test_where_there_is_nothing_better_the_reason_says_so(
    new_job: Callable[..., JobRecord], new_trial: NewTrial
) -> None:
    anchor = new_trial(0, 2.0, 1e-3)
    found = picks(new_job(), anchor, [anchor, new_trial(1, 3.0, 2e-3)], limit_s=1e-3)
    assert [pick.trial for pick in found] == [None] * 4
    assert "itself" in found[3].reason
    assert "nothing" in found[0].reason


def test_a_finalist_is_compared_with_finalists_only(
    new_job: Callable[..., JobRecord], new_trial: NewTrial
) -> None:
    def retrained(trial: TrialRecord, quality: float) -> TrialRecord:
        values = {"bits_per_byte": quality, "latency_s": trial.values["latency_s"]}
        return replace(trial, final=Final(3, 1000, values, {}, {}))

    short = new_trial(0, 2.5, 2e-3)
    long = retrained(new_trial(1, 2.6, 1e-3), 2.0)
    faster, _, *_ = picks(new_job(), short, [long])
    assert faster.trial is None
    other = retrained(new_trial(2, 2.9, 0.8e-3), 1.9)
    faster, _, *_ = picks(new_job(), long, [new_trial(3, 1.0, 1e-4), other])
    assert faster.trial == other


def test_the_limit_is_the_jobs_own(new_job: Callable[..., JobRecord]) -> None:
    assert limit_of(new_job()) is None
    job = new_job()
    assert limit_of(replace(job, spec={**job.spec, "constraints": {"latency_s": 0.01}})) == 0.01
