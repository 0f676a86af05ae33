import datetime as dt
import itertools
from collections.abc import Callable
from dataclasses import replace

from dashboards.figures import growth, progress_figure
from dashboards.figures.progress import EMPTY, progress_rows
from search.indicators import indicators
from search.records import JobRecord, TrialRecord
from search.tally import endings_of


def test_the_hypervolume_never_shrinks_and_ends_at_the_indicator(job: JobRecord) -> None:
    history = progress_rows(job)
    search, reference = progress_figure(job).data
    assert list(zip(search.x, search.y, strict=True)) == history
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(history))
    assert set(reference.y) == {job.indicators["reference_hypervolume"]}


def test_an_unstarted_job_gets_a_sentence(new_job: Callable[..., JobRecord]) -> None:
    assert progress_figure(new_job()).layout.annotations[0].text.replace("<br>", " ") == EMPTY


def test_growth_is_known_over_time_and_over_training(
    job: JobRecord, trials: list[TrialRecord], references: list[TrialRecord]
) -> None:
    """One trial a minute; two number formats of one architecture share one training."""
    assert job.started_at is not None
    timed = [
        replace(trial, ended_at=job.started_at + dt.timedelta(minutes=1 + trial.number)) for trial in trials
    ]
    timed[1] = replace(timed[1], training_id=timed[0].training_id)
    known = replace(job, indicators=indicators(timed, references, job.objectives))
    endings = endings_of(timed, known.objectives)
    found = growth(known, endings)
    assert [one.trials for one in found] == [count for count, _ in progress_rows(known)]
    assert [one.minutes for one in found] == sorted(one.minutes or 0 for one in found)
    counted = [one for one in timed if one.state == "completed" and one.kinds.get("latency_s") == "measured"]
    end = counted[-1].number
    assert found[-1].minutes == 1 + end
    spent = {one.training_id: one.steps for one in timed if one.number <= end}
    assert found[-1].steps == sum(spent.values())
    by_time, by_steps = progress_figure(known, endings, "time"), progress_figure(known, endings, "steps")
    assert by_time.layout.xaxis.title.text == "minutes since the start"
    assert by_steps.layout.xaxis.title.text == "training steps the search has spent"
    assert len(by_time.data[0].x) == len(by_steps.data[0].x) == len(found)
