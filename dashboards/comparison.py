"""Two to four trials beside each other in numbers: one row per quantity, every cell against the first trial.

Quality is compared at one budget: in the finalists' numbers only if all are finalists, else in those of the
search; the finalists' then stand in rows of their own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluators.training import Paired
from search.objectives import OBJECTIVES
from search.records import JobRecord, Spread, TrialRecord

from .points import number_cell
from .wording import factor, label

MAX_TRIALS = 4


@dataclass(frozen=True, slots=True)
class ComparedCell:
    """One number: text, interval, kind; `against` is its ratio to the first trial's."""

    text: str
    spread: str
    kind: str
    against: str
    is_best: bool


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One quantity of every trial."""

    name: str
    cells: tuple[ComparedCell, ...]


def compared_rows(job: JobRecord, trials: Sequence[TrialRecord]) -> list[ComparedRow]:
    """The job's objectives, then every other known quantity."""
    all_final = all(trial.final for trial in trials)
    values = [trial.effective if all_final else trial.values for trial in trials]
    spreads = [trial.effective_spread if all_final else trial.spread for trial in trials]
    order = [*job.objectives, *(key for key in OBJECTIVES if key not in job.objectives)]
    keys = [key for key in order if any(key in one for one in values)]
    keys += sorted({key for one in values for key in one if key not in order})
    kinds = [trial.kinds for trial in trials]
    rows = [_row(label(key), key, values, spreads, kinds) for key in keys]
    return rows if all_final else [*rows, *_final_rows(job, trials)]


def part_rows(job: JobRecord, trials: Sequence[TrialRecord]) -> list[ComparedRow]:
    """Quality on the test part, where any trial has it."""
    quality = job.objectives[0]
    values = [trial.final.test if trial.final else {} for trial in trials]
    if not any(quality in one for one in values):
        return []
    spreads = [trial.final.test_spread if trial.final else {} for trial in trials]
    kinds = [{quality: "measured"} for _ in trials]
    return [_row(f"{label(quality)}, test part", quality, values, spreads, kinds)]


def paired_row(
    job: JobRecord, trials: Sequence[TrialRecord], paired: Mapping[int, Paired]
) -> list[ComparedRow]:
    """How the losses of the same validation examples differ from those of the first trial; empty where no
    training of another can be paired with one of the first."""
    if not paired:
        return []
    in_bits = job.objectives[0] == "bits_per_byte"
    scale, unit = (1 / math.log(2), "bits") if in_bits else (1.0, "nats")
    cells = []
    for trial in trials:
        found = paired.get(trial.number)
        if found is None:
            cells.append(ComparedCell("–", "", "", "", is_best=False))
            continue
        spread = f"± {1.96 * scale * found.standard_error:.2g}"
        told = "tied" if found.is_tied else ""
        text = f"{scale * found.mean:+.3g} {unit}"
        cells.append(ComparedCell(text, spread, "measured", told, is_best=False))
    return [ComparedRow("same examples, fp32, less the first", tuple(cells))]


def budgets(trials: Sequence[TrialRecord]) -> list[str]:
    """What each trial was trained for: steps and seeds."""
    return [
        f"{trial.final.steps:,} steps, {trial.final.seeds} seeds"
        if trial.final
        else f"{trial.steps:,} steps, 1 seed"
        for trial in trials
    ]


def _final_rows(job: JobRecord, trials: Sequence[TrialRecord]) -> list[ComparedRow]:
    """The finalists' own quality, beside that of the search all trials have."""
    quality = job.objectives[0]
    values = [trial.final.values if trial.final else {} for trial in trials]
    if not any(quality in one for one in values):
        return []
    spreads = [trial.final.spread if trial.final else {} for trial in trials]
    kinds = [{quality: "measured"} for _ in trials]
    return [_row(f"{label(quality)}, full budget", quality, values, spreads, kinds)]


def _row(
    name: str,
    key: str,
    values: Sequence[Mapping[str, float]],
    spreads: Sequence[Mapping[str, Spread]],
    kinds: Sequence[Mapping[str, str]],
) -> ComparedRow:
    known = [_minimised(key, one[key]) for one in values if key in one]
    best = min(known) if len(known) > 1 and key in OBJECTIVES and len(set(known)) > 1 else None
    cells = []
    for index, (one, spread, kind) in enumerate(zip(values, spreads, kinds, strict=True)):
        number = number_cell(key, one, spread)
        cells.append(
            ComparedCell(
                text=number.text,
                spread=number.spread,
                kind=kind.get(key, "") if key in one else "",
                against=_against(key, values, spreads, index),
                is_best=best is not None and key in one and _minimised(key, one[key]) == best,
            )
        )
    return ComparedRow(name, tuple(cells))


def _against(
    key: str, values: Sequence[Mapping[str, float]], spreads: Sequence[Mapping[str, Spread]], index: int
) -> str:
    """Ratio to the first trial, or that the intervals overlap; empty where it says nothing."""
    if index == 0 or key not in values[0] or key not in values[index]:
        return ""
    first, own = values[0][key], values[index][key]
    if first == own:
        return "equal"
    one, other = spreads[0].get(key), spreads[index].get(key)
    if one is not None and other is not None and one.low <= other.high and other.low <= one.high:
        return "≈ intervals overlap"
    return factor(own / first) if first > 0 else ""


def _minimised(key: str, value: float) -> float:
    return OBJECTIVES[key].minimised(value) if key in OBJECTIVES else value
