"""The charts of a job page, each with its table: prepared once for the page, its live parts and the CSV."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from search.gene_values import number_format
from search.importance import importances
from search.objectives import OBJECTIVES
from search.records import JobRecord, MeasurementRecord, TrialRecord
from search.tally import Ending, Tally, endings_of, rungs_of, tally_of
from space.errors import InvalidInputError, nearest

from .charts import Chart
from .cloud import Many, Thinned
from .figures import (
    LatencyPair,
    front_figure,
    funnel,
    funnel_figure,
    growth,
    growth_inside,
    importance_figure,
    latency_figure,
    latency_pairs,
    learning_figure,
    learning_lines,
    progress_figure,
)
from .figures.importance import too_few_words
from .region import Region
from .selection import Selection, default_selection
from .wording import axis_title, label

NAMES = ("front", "progress", "funnel", "importance", "learning", "latency")
Measurements = Mapping[str, Iterable[MeasurementRecord]]


def job_charts(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    references: Sequence[TrialRecord],
    measurements: Measurements | None = None,
    selection: Selection | None = None,
    *,
    curves: Measurements | None = None,
    many: Many | None = None,
) -> dict[str, Chart]:
    """Every chart by name. `measurements`: latency measurements by architecture id.

    `curves`: validation values by training id. `many`: what is known of all trials, where these are some.
    """
    chosen = selection or default_selection(job)
    region = chosen.region
    endings = many.endings if many else endings_of(trials, job.objectives)
    everything = (*trials, *references)
    return {
        "front": front_chart(job, trials, references, chosen, many.cloud if many else None),
        "progress": _progress(job, trials, references, endings, chosen, is_whole=many is None),
        "funnel": _funnel(job, tally_inside(job, everything, chosen, many), is_part=bool(region)),
        "importance": _importance(job, many.sample if many else region.inside(trials)),
        "learning": _learning(job, everything, curves or {}, region),
        "latency": _latency(everything, measurements or {}, region),
    }


def tally_inside(
    job: JobRecord, everything: Sequence[TrialRecord], chosen: Selection, many: Many | None
) -> Tally:
    """Counts of the trials and references inside the reader's filter."""
    if many:
        return many.inside or many.tally
    return tally_of(chosen.region.inside(everything), rungs_of(job))


def chart_named(charts: Mapping[str, Chart], name: str) -> Chart:
    """
    Raises:
        InvalidInputError: there is no such chart.
    """
    if name not in charts:
        raise InvalidInputError(f"there is no chart '{name[:40]}'; {nearest(name, charts)}")
    return charts[name]


def front_chart(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    references: Sequence[TrialRecord],
    chosen: Selection,
    cloud: Thinned | None = None,
) -> Chart:
    """Every mark of the figure, those of the fronts first. `cloud`: see `front_figure`."""
    inside = chosen.region.inside((*trials, *references))
    shown = [one for one in inside if {chosen.x, chosen.y} <= set(one.effective)]
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
    note = ""
    if cloud and cloud.density:
        note = (
            f"Of {cloud.total:,} dominated trials in view {len(cloud.numbers):,} are drawn, at least one "
            "wherever there are any; the shade behind them counts all. Zoom in to see the others."
        )
    return Chart(front_figure(job, trials, references, chosen, cloud), columns, rows, note)


def _progress(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    references: Sequence[TrialRecord],
    endings: Sequence[Ending],
    chosen: Selection,
    *,
    is_whole: bool,
) -> Chart:
    """`is_whole`: `trials` are all of the job's; of some alone no growth can be said."""
    columns = ("counted trials", "minutes since the start", "training steps spent", "hypervolume")
    history, note = None, ""
    if chosen.region and is_whole:
        history = growth_inside(job, trials, references, chosen.region)
        note = "The second line counts the trials inside the filter alone, on the same scale."
    elif chosen.region:
        note = "Of all trials: of so many, those inside a filter are not followed one by one."
    rows = [(one.trials, one.minutes, one.steps, one.hypervolume) for one in growth(job, endings, history)]
    return Chart(progress_figure(job, endings, chosen.over, history or ()), columns, rows, note)


def _funnel(job: JobRecord, tally: Tally, *, is_part: bool) -> Chart:
    stages = funnel(job, tally, is_part=is_part)
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
    columns = ("stage", "architectures", "% of the stage before", "% of the first stage")
    return Chart(funnel_figure(stages), columns, rows)


def _importance(job: JobRecord, trials: Sequence[TrialRecord]) -> Chart:
    found = importances(trials, job.objectives)
    rows = [
        (
            label(one.objective),
            gene.title,
            100 * gene.share,
            100 * gene.chance,
            "yes" if gene.is_above_chance else "no",
            one.trials,
        )
        for one in found
        for gene in one.genes
    ]
    columns = ("objective", "gene", "share (%)", "by chance up to (%)", "beyond chance", "trials")
    return Chart(importance_figure(found), columns, rows, "" if rows else too_few_words(found))


def _learning(job: JobRecord, trials: Sequence[TrialRecord], curves: Measurements, region: Region) -> Chart:
    lines = learning_lines(job, trials, curves, region)
    quality = axis_title(job.objectives[0])
    rows = [
        (line.name, line.group, step, value)
        for line in lines
        if line.group != "outside"
        for step, value in line.points
    ]
    return Chart(learning_figure(job, lines, region), ("training of", "group", "steps", quality), rows)


def _latency(trials: Sequence[TrialRecord], measurements: Measurements, region: Region) -> Chart:
    outside = {one.number for one in trials if not region.admits(one)}
    pairs = sorted(latency_pairs(trials, measurements), key=lambda pair: pair.trial)
    inside = [pair for pair in pairs if pair.trial not in outside]
    rows = [
        (_label(pair.trial), 1e3 * pair.predicted_s, 1e3 * pair.measured_s, pair.log_ratio_percent)
        for pair in inside
    ]
    columns = ("trial", "predicted (ms)", "measured (ms)", "prediction off by %")
    return Chart(latency_figure(pairs, outside, region), columns, rows, _latency_words(inside))


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
