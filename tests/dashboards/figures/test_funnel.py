import itertools
from collections.abc import Callable
from dataclasses import replace

from dashboards.figures import funnel, funnel_figure
from dashboards.figures.funnel import EMPTY
from search.records import JobRecord, TrialRecord
from search.tally import Tally, rungs_of, tally_of


def tally(job: JobRecord, trials: list[TrialRecord]) -> Tally:
    return tally_of(trials, rungs_of(job))


def test_every_stage_is_no_wider_than_the_one_before_it(
    job: JobRecord, trials: list[TrialRecord], finals: Callable[..., list[TrialRecord]]
) -> None:
    stages = funnel(job, tally(job, finals(trials)))
    assert [stage.name for stage in stages] == [
        "proposed", "passed the screen", "trained 38 steps", "trained 75 steps", "trained 150 steps",
        "measured whole", "on the front", "finalists",
    ]  # fmt: skip
    assert stages[0].count == job.counters["proposed"]
    assert stages[1].count == len(trials)
    for before, after in itertools.pairwise(stages[:5]):
        assert after.count <= before.count
        assert after.rate == after.count / before.count
    assert stages[-1].count == 3


def test_references_are_beside_the_funnel(job: JobRecord, references: list[TrialRecord]) -> None:
    assert funnel(job, tally(job, references))[1].count == 0


def test_bars_say_count_and_share(job: JobRecord, trials: list[TrialRecord]) -> None:
    bars = funnel_figure(funnel(job, tally(job, trials))).data[0]
    assert bars.x[0] == 61
    assert bars.text[1] == " 24  (39 %)"


def test_an_unstarted_job_gets_a_sentence(job: JobRecord) -> None:
    empty = replace(job, counters={})
    assert (
        funnel_figure(funnel(empty, tally(empty, []))).layout.annotations[0].text.replace("<br>", " ")
        == EMPTY
    )
