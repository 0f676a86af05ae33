"""The charts of a job page, each with its table: prepared once for the page, its live parts and the CSV."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from search.objectives import OBJECTIVES
from search.records import JobRecord, MeasurementRecord, TrialRecord
from space.errors import InvalidInputError, nearest

from .charts import Chart
from .figures import (
    LatencyPair,
    front_figure,
    funnel,
    funnel_figure,
    growth,
    latency_figure,
    latency_pairs,
    progress_figure,
)
from .selection import Selection, default_selection
from .wording import axis_title, number_format

NAMES = ("front", "progress", "funnel", "latency")
Measurements = Mapping[str, Iterable[MeasurementRecord]]


def job_charts(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    references: Sequence[TrialRecord],
    measurements: Measurements | None = None,
    selection: Selection | None = None,
) -> dict[str, Chart]:
    """Every chart by name. `measurements`: latency measurements by architecture id."""
    chosen = selection or default_selection(job)
    return {
        "front": _front(job, trials, references, chosen),
        "progress": _progress(job, trials, chosen),
        "funnel": _funnel(job, trials),
        "latency": _latency((*trials, *references), measurements or {}),
    }


def chart_named(charts: Mapping[str, Chart], name: str) -> Chart:
    """
    Raises:
        InvalidInputError: there is no such chart.
    """
    if name not in charts:
        raise InvalidInputError(f"there is no chart '{name[:40]}'; {nearest(name, charts)}")
    return charts[name]


def _front(
    job: JobRecord, trials: Sequence[TrialRecord], references: Sequence[TrialRecord], chosen: Selection
) -> Chart:
    """Every mark of the figure, those of the fronts first."""
    shown = [one for one in (*trials, *references) if {chosen.x, chosen.y} <= set(one.effective)]
    x_scale, y_scale = (OBJECTIVES[key].display_scale for key in (chosen.x, chosen.y))
    ordered = sorted(shown, key=lambda one: (not one.on_front, one.number < 0, one.effective[chosen.x]))
    rows = []
    for one in ordered:
        ends = [one.effective_spread.get(key) for key in (chosen.x, chosen.y)]
        rows.append(
            (
                one.label,
                "reference" if one.number < 0 else "search",
                one.state,
                "yes" if one.on_front else "no",
                x_scale * one.effective[chosen.x],
                *((x_scale * ends[0].low, x_scale * ends[0].high) if ends[0] else (None, None)),
                one.kinds.get(chosen.x, ""),
                y_scale * one.effective[chosen.y],
                *((y_scale * ends[1].low, y_scale * ends[1].high) if ends[1] else (None, None)),
                one.kinds.get(chosen.y, ""),
                number_format(one.architecture),
            )
        )
    x, y = axis_title(chosen.x), axis_title(chosen.y)
    columns = (
        "trial", "group", "state", "on front", x, f"{x} low", f"{x} high", f"{x} obtained",
        y, f"{y} low", f"{y} high", f"{y} obtained", "number format",
    )  # fmt: skip
    return Chart(front_figure(job, trials, references, chosen), columns, rows)


def _progress(job: JobRecord, trials: Sequence[TrialRecord], chosen: Selection) -> Chart:
    found = growth(job, trials)
    rows = [(one.trials, one.minutes, one.steps, one.hypervolume) for one in found]
    columns = ("counted trials", "minutes since the start", "training steps spent", "hypervolume")
    return Chart(progress_figure(job, trials, chosen.over), columns, rows)


def _funnel(job: JobRecord, trials: Sequence[TrialRecord]) -> Chart:
    stages = funnel(job, trials)
    first = stages[0].count or 1
    rows = [
        (
            stage.name,
            stage.count,
            None if stage.rate is None else 100 * stage.rate,
            100 * stage.count / first,
        )
        for stage in stages
    ]
    columns = ("stage", "architectures", "% of the stage before", "% of all proposed")
    return Chart(funnel_figure(stages), columns, rows)


def _latency(trials: Sequence[TrialRecord], measurements: Measurements) -> Chart:
    pairs = sorted(latency_pairs(trials, measurements), key=lambda pair: pair.trial)
    rows = [
        (_label(pair.trial), 1e3 * pair.predicted_s, 1e3 * pair.measured_s, pair.log_ratio_percent)
        for pair in pairs
    ]
    columns = ("trial", "predicted (ms)", "measured (ms)", "prediction off by %")
    return Chart(latency_figure(pairs), columns, rows, _latency_words(pairs))


def _latency_words(pairs: Sequence[LatencyPair]) -> str:
    """How far predictions are off in the middle, and whether they tend to one side."""
    if len(pairs) < 3:
        return ""
    logs = [math.log(pair.predicted_s / pair.measured_s) for pair in pairs]
    off = 100 * (math.exp(statistics.median(abs(one) for one in logs)) - 1)
    bias = 100 * (math.exp(statistics.median(logs)) - 1)
    return (
        f"Half of the {len(pairs)} predictions are off by less than {off:.1f} %; in the middle they are "
        f"{abs(bias):.1f} % too {'high' if bias > 0 else 'low'}."
    )


def _label(number: int) -> str:
    return f"R{-number}" if number < 0 else str(number)
