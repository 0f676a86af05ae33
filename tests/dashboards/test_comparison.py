from collections.abc import Callable
from dataclasses import replace

from dashboards.comparison import budgets, compared_rows, paired_row, part_rows
from evaluators.training import Paired
from search.records import JobRecord, Spread, TrialRecord

Trials = list[TrialRecord]
NewTrial = Callable[..., TrialRecord]


def test_numbers_stand_against_the_first_trial(
    new_job: Callable[..., JobRecord], new_trial: NewTrial
) -> None:
    rows = {
        row.name: row.cells
        for row in compared_rows(new_job(), [new_trial(0, 2.5, 2e-3), new_trial(1, 2.4, 1e-3)])
    }
    assert [cell.against for cell in rows["latency"]] == ["", "0.5×"]
    assert [cell.is_best for cell in rows["latency"]] == [False, True]
    assert rows["parameters"][1].against == "equal"
    assert not any(cell.is_best for cell in rows["parameters"])
    assert {cell.kind for cell in rows["parameters"]} == {"computed"}


def test_intervals_that_overlap_tell_nothing(new_job: Callable[..., JobRecord], new_trial: NewTrial) -> None:
    one, other = new_trial(0, 2.5, 1e-3), new_trial(1, 2.52, 1e-3)
    assert one.spread["bits_per_byte"].high > other.spread["bits_per_byte"].low
    assert compared_rows(new_job(), [one, other])[0].cells[1].against == "≈ intervals overlap"
    apart = replace(other, spread={"bits_per_byte": Spread(2.6, 2.7, 1)})
    assert compared_rows(new_job(), [one, apart])[0].cells[1].against == "1.01×"


def test_quality_is_compared_at_one_budget(
    job: JobRecord, trials: Trials, finals: Callable[..., Trials]
) -> None:
    retrained = [trial for trial in finals(trials, 2) if trial.final]
    assert all(one.final for one in retrained)
    both = compared_rows(job, retrained)
    assert both[0].cells[0].text == f"{retrained[0].final.values['bits_per_byte']:.4g} bits"  # type: ignore[union-attr]
    plain = next(trial for trial in trials if trial.on_front)
    mixed = compared_rows(job, [retrained[0], plain])
    assert mixed[0].cells[0].text == f"{retrained[0].values['bits_per_byte']:.4g} bits"
    assert mixed[-1].name == "bits per byte, full budget"
    assert mixed[-1].cells[1].text == "–"
    assert [row.name for row in part_rows(job, retrained)] == ["bits per byte, test part"]
    assert budgets([retrained[0], plain]) == ["150 steps, 3 seeds", "150 steps, 1 seed"]


def test_losses_of_the_same_examples_stand_in_a_row_of_their_own(
    new_job: Callable[..., JobRecord], new_trial: NewTrial
) -> None:
    trials = [new_trial(number, 2.5, 1e-3) for number in range(3)]
    assert paired_row(new_job(), trials, {}) == []
    (row,) = paired_row(new_job(), trials, {1: Paired(-0.0693, 0.01, 512), 2: Paired(0.01, 0.01, 512)})
    assert [cell.text for cell in row.cells] == ["–", "-0.1 bits", "+0.0144 bits"]
    assert [cell.spread for cell in row.cells] == ["", "± 0.028", "± 0.028"]
    assert [cell.against for cell in row.cells] == ["", "", "tied"]
