import math
from collections.abc import Callable
from dataclasses import replace

from dashboards.figures import curve_figure, learning_curves
from dashboards.figures.curves import EMPTY
from search.records import JobRecord, MeasurementRecord, TrialRecord

Measured = Callable[[TrialRecord], list[MeasurementRecord]]


def test_rungs_of_one_run_become_one_curve_in_the_unit_of_the_objective(
    job: JobRecord, trials: list[TrialRecord], measured: Measured
) -> None:
    records = measured(trials[0])
    (curve,) = learning_curves(job, records)
    assert [step for step, _ in curve.validation] == [38, 75, 150]
    steps = [step for step, _ in curve.training]
    assert steps == sorted(set(steps))
    stored = dict(records[0].detail["curve"])
    assert curve.training[0][1] == stored[1] / math.log(2)


def test_seeds_are_separate_curves_told_apart_by_more_than_colour(
    job: JobRecord, trials: list[TrialRecord], measured: Measured
) -> None:
    records = [r for r in measured(trials[0]) if r.fidelity]
    curves = learning_curves(job, [*records, *(replace(r, seed=1) for r in records)])
    figure = curve_figure(job, curves)
    assert [trace.name for trace in figure.data] == [
        "training batches, seed 0",
        "validation, seed 0",
        "training batches, seed 1",
        "validation, seed 1",
    ]
    assert len({trace.line.dash for trace in figure.data}) == 2


def test_a_classification_job_shows_the_loss(
    new_job: Callable[..., JobRecord], trials: list[TrialRecord], measured: Measured
) -> None:
    records = [replace(r, quantity="loss", unit="nats") for r in measured(trials[0]) if r.fidelity]
    job = new_job(objectives=("error", "latency_s"))
    (curve,) = learning_curves(job, records)
    assert curve.training[0][1] == records[0].detail["curve"][0][1]
    assert curve_figure(job, [curve]).layout.yaxis.title.text == "loss (nats)"


def test_without_a_training_there_is_a_sentence(new_job: Callable[..., JobRecord]) -> None:
    assert curve_figure(new_job(), []).layout.annotations[0].text.replace("<br>", " ") == EMPTY
