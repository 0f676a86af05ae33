from collections.abc import Callable
from dataclasses import replace

from dashboards.figures import learning_figure, learning_lines
from dashboards.figures.learning import EMPTY
from search.records import JobRecord, MeasurementRecord, TrialRecord

Trials = list[TrialRecord]


def test_a_line_is_a_training_and_ends_where_it_was_stopped(
    job: JobRecord,
    trials: Trials,
    references: Trials,
    measured: Callable[[TrialRecord], list[MeasurementRecord]],
) -> None:
    every = [*trials, *references]
    curves = {one.training_id: measured(one) for one in every}
    lines = learning_lines(job, every, curves)
    by_number = {line.number: line for line in lines}
    assert len(lines) == len({one.training_id for one in every})
    stopped = next(one for one in trials if one.state == "pruned")
    assert [step for step, _ in by_number[stopped.number].points] == [38]
    groups = {line.group for line in lines}
    assert groups == {"front", "reference", "other"}
    traces = {trace.name: trace for trace in learning_figure(job, lines).data}
    assert set(traces) == {"the front", "references", "other trials"}
    marks = sum(step is not None for trace in traces.values() for step in trace.x)
    assert marks == sum(len(line.points) for line in lines)


def test_formats_of_one_training_share_a_line(
    job: JobRecord, trials: Trials, measured: Callable[[TrialRecord], list[MeasurementRecord]]
) -> None:
    twin = replace(trials[0], number=90)
    (line,) = learning_lines(job, [trials[0], twin], {twin.training_id: measured(twin)})
    assert line.name == "0, 90"


def test_without_a_value_there_is_a_sentence(job: JobRecord, trials: Trials) -> None:
    assert learning_lines(job, trials, {}) == []
    assert learning_figure(job, []).layout.annotations[0].text.replace("<br>", " ") == EMPTY
