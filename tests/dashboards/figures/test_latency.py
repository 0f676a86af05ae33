from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from dashboards.figures import latency_figure, latency_pairs
from dashboards.figures.latency import EMPTY
from search.records import MeasurementRecord, TrialRecord


def test_pairs_need_both_numbers(
    trials: list[TrialRecord], measured: Callable[[TrialRecord], list[MeasurementRecord]]
) -> None:
    timed = next(trial for trial in trials if trial.kinds.get("latency_s") == "measured")
    promised = next(trial for trial in trials if trial.kinds.get("latency_s") == "predicted")
    known = {trial.architecture_id: measured(trial) for trial in (timed, promised)}
    (pair,) = latency_pairs([timed, promised], known)
    assert pair.trial == timed.number
    assert round(pair.log_ratio_percent, 6) == 10.0
    assert latency_pairs([timed], {}) == []


def test_what_another_job_predicted_or_measured_is_not_compared(
    trials: list[TrialRecord], measured: Callable[[TrialRecord], list[MeasurementRecord]]
) -> None:
    """The same architecture on another target, later."""
    trial = next(trial for trial in trials if trial.kinds.get("latency_s") == "measured")
    own = measured(trial)
    later = [
        replace(
            record,
            value=100.0,
            detail={**record.detail, "job": "another"},
            created_at=record.created_at + timedelta(9),
        )
        for record in own
        if record.quantity == "latency_s"
    ]
    assert latency_pairs([trial], {trial.architecture_id: [*own, *later]}) == latency_pairs(
        [trial], {trial.architecture_id: own}
    )


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
