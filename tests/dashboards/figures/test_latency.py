from collections.abc import Callable

from dashboards.figures import latency_figure, latency_pairs
from dashboards.figures.latency import EMPTY
from search.records import MeasurementRecord, TrialRecord


def test_pairs_need_both_numbers(
    trials: list[TrialRecord], measured: Callable[[TrialRecord], list[MeasurementRecord]]
) -> None:
    first, second = trials[:2]
    only_predicted = [record for record in measured(second) if record.kind == "predicted"]
    known = {first.architecture_id: measured(first), second.architecture_id: only_predicted}
    (pair,) = latency_pairs(trials[:2], known)
    assert pair.trial == first.number
    assert round(pair.log_ratio_percent, 6) == 10.0


def test_the_figure_shows_milliseconds_and_the_line_of_perfect_prediction(
    trials: list[TrialRecord], measured: Callable[[TrialRecord], list[MeasurementRecord]]
) -> None:
    known = {trial.architecture_id: measured(trial) for trial in trials}
    pairs = latency_pairs(trials, known)
    line, marks = latency_figure(pairs).data
    assert list(line.x) == list(line.y)
    assert sorted(marks.y) == sorted(1e3 * pair.measured_s for pair in pairs)


def test_without_pairs_there_is_a_sentence() -> None:
    assert latency_figure([]).layout.annotations[0].text.replace("<br>", " ") == EMPTY
