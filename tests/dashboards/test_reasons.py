from collections.abc import Callable
from dataclasses import replace

from dashboards.reasons import front_reason
from search.records import JobRecord, TrialRecord

NewTrial = Callable[..., TrialRecord]


def test_a_front_member_names_its_neighbours(new_job: Callable[..., JobRecord], new_trial: NewTrial) -> None:
    front = [new_trial(i, 3.0 - i / 10, (i + 1) / 1e3, on_front=True) for i in range(3)]
    words = front_reason(new_job(), front[1], front)
    assert "Next lower in latency: trial 0 with 1 ms and 3 bits." in words
    assert "Next higher in latency: trial 2 with 3 ms and 2.8 bits." in words


def test_every_trial_off_the_front_names_one_that_beats_it(job: JobRecord, trials: list[TrialRecord]) -> None:
    front = {trial.label: trial for trial in trials if trial.on_front}
    for trial in trials:
        if trial.state != "completed" or trial.on_front or trial.kinds["latency_s"] == "predicted":
            continue
        words = front_reason(job, trial, trials)
        named = front[words.split("trial ")[1].split()[0]]
        assert all(named.values[key] <= trial.values[key] for key in job.objectives)


def test_what_keeps_the_others_off_is_said(new_job: Callable[..., JobRecord], new_trial: NewTrial) -> None:
    job, trial = new_job(), new_trial(0, 2.0, 1e-3)
    predicted = replace(trial, kinds={**trial.kinds, "latency_s": "predicted"})
    assert "predicted, not measured" in front_reason(job, predicted, [])
    assert "breaks a constraint" in front_reason(job, replace(trial, flags=("infeasible",)), [])
    assert "diverged" in front_reason(job, replace(trial, state="failed", reason="diverged"), [])
    assert "38 steps" in front_reason(job, replace(trial, state="pruned", steps=38), [])
    assert "Not every objective" in front_reason(job, replace(trial, values={}), [])
    assert front_reason(job, replace(trial, state="running"), []) == "Not finished yet."
