import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace

from dashboards.points import finalist_rows, points, rows, staircase, thinned
from search.records import JobRecord, TrialRecord

NewTrial = Callable[..., TrialRecord]


def test_points_have_both_numbers_in_display_units(
    new_job: Callable[..., JobRecord], new_trial: NewTrial
) -> None:
    whole, half = new_trial(0, 2.5, 0.002), new_trial(1, 2.5, 0.001)
    half = replace(half, values={"latency_s": 0.001})
    (point,) = points(new_job(), [whole, half])
    assert (point.number, point.x, point.y) == (0, 2.0, 2.5)
    assert point.x_low < point.x < point.x_high


def test_a_finalist_stands_at_its_final_numbers(
    job: JobRecord, trials: list[TrialRecord], finals: Callable[..., list[TrialRecord]]
) -> None:
    retrained = next(trial for trial in finals(trials) if trial.final)
    assert retrained.final is not None
    (point,) = points(job, [retrained])
    assert point.y == retrained.final.values["bits_per_byte"] != retrained.values["bits_per_byte"]


def test_predicted_and_noisy_points_are_hollow(
    new_job: Callable[..., JobRecord], new_trial: NewTrial
) -> None:
    trial = new_trial(0, 2.5, 0.002)
    guesses = [
        replace(trial, kinds={**trial.kinds, "latency_s": "predicted"}),
        replace(trial, flags=("noisy",)),
        replace(trial, flags=("contended",)),
        trial,
    ]
    assert [points(new_job(), [guess])[0].hollow for guess in guesses] == [True, True, True, False]


def test_a_staircase_goes_down_and_misses_no_best_point(
    new_job: Callable[..., JobRecord], new_trial: NewTrial
) -> None:
    rng = random.Random(0)
    cloud = points(new_job(), [new_trial(i, rng.randint(1, 9), rng.randint(1, 9) / 1e3) for i in range(60)])
    stairs = staircase(cloud)
    assert all(a.x < b.x and a.y > b.y for a, b in itertools.pairwise(stairs))
    for point in cloud:
        assert any(step.x <= point.x and step.y <= point.y for step in stairs)


def test_thinning_keeps_the_ends_and_spreads_evenly(
    new_job: Callable[..., JobRecord], new_trial: NewTrial
) -> None:
    cloud = points(new_job(), [new_trial(i, 2.0, (i + 1) / 1e3) for i in range(100)])
    few = [point.number for point in thinned(cloud, 10)]
    assert few == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    assert thinned(cloud, 100) == cloud


def test_rows_are_the_twin_of_the_marks(job: JobRecord, trials: list[TrialRecord]) -> None:
    front = [trial for trial in trials if trial.on_front]
    table = rows(job, front)
    assert [row.number for row in table] == [point.number for point in points(job, front)]
    assert table[0].cells[1].text.endswith("ms")
    assert table[0].cells[1].spread.startswith("±")
    assert table[0].cells[1].kind == "measured"
    suggested = {int(item["trial"]) for item in job.indicators["suggestions"]}
    assert {row.number for row in table if row.suggestion} == suggested


def test_unknown_numbers_are_dashes_at_the_end(
    new_job: Callable[..., JobRecord], new_trial: NewTrial
) -> None:
    unknown = replace(new_trial(0, 2.0, 1e-3), values={})
    table = rows(new_job(), [unknown, new_trial(1, 2.0, 1e-3)])
    assert [row.number for row in table] == [1, 0]
    assert table[1].cells[0].text == "–"


def test_finalists_show_search_full_budget_and_test(
    job: JobRecord, trials: list[TrialRecord], finals: Callable[..., list[TrialRecord]]
) -> None:
    table = finalist_rows(job, finals(trials, 2))
    assert len(table) == 2
    search, full, test, _ = (cell.text for cell in table[0].cells)
    numbers = [float(text.split()[0]) for text in (search, full, test)]
    assert math.isclose(numbers[0] - numbers[1], 0.02, abs_tol=2e-3)
    assert numbers[2] > numbers[1]
