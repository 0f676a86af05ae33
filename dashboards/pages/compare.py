"""The page of two to four trials side by side: drawn, gene by gene, in numbers, and how they learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from evaluators.training import Paired
from search.job import TRAINING_FREE
from search.objectives import OBJECTIVES
from search.records import JobRecord, MeasurementRecord, TrialRecord

from ..charts import Chart
from ..comparison import MAX_TRIALS, budgets, compared_rows, paired_row, part_rows
from ..differences import changed_parts, sections
from ..drawing import draw_architecture
from ..figures import compared_curves, learning_curves
from ..figures.curves import curve_key
from ..picks import Pick, limit_of, picks
from ..theme import SERIES, dark_colours
from ..wording import describe, is_over, label
from .environment import render


@dataclass(frozen=True, slots=True)
class Column:
    """One trial of the page; its mark and colour are those of its curve."""

    trial: TrialRecord
    name: str
    mark: str
    series: int
    what: str
    drawing: str
    without: str
    """Address of the comparison without it; empty where it is the last one."""
    first: str
    """Address of the comparison with it as the first; empty for the first."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A pick with the address of the comparison that has it too."""

    pick: Pick
    name: str
    address: str


def compare_page(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    measurements: Mapping[int, Sequence[MeasurementRecord]],
    candidates: Sequence[TrialRecord],
    *,
    limit_ms: float | None = None,
    paired: Mapping[int, Paired] | None = None,
    csrf: str = "",
) -> str:
    """HTML of `/jobs/{id}/compare?trials=`; everything is compared with the first trial.

    `measurements`: those of each trial's training, by trial number. `candidates`: the fronts of the search
    and of the references, for the picks. `limit_ms`: a latency a reader wants to keep. `paired`: by trial
    number, its losses less those of the first trial on the same validation examples.
    """
    architectures = [trial.architecture for trial in trials]
    limit_s = limit_of(job) if limit_ms is None else limit_ms / 1e3
    found = sections(architectures)
    chart = curves_chart(job, trials, measurements)
    return render(
        "compare.html",
        job=job,
        columns=_columns(job, trials),
        offers=_offers(job, trials, picks(job, trials[0], candidates, limit_s=limit_s)),
        limit_ms="" if limit_s is None else f"{1e3 * limit_s:g}",
        picked=address_list(trials),
        sections=found,
        same=sum(section.same for section in found),
        is_equal=not any(section.is_different for section in found),
        numbers=[
            *compared_rows(job, trials),
            *part_rows(job, trials),
            *paired_row(job, trials, paired or {}),
        ],
        is_paired=bool(paired),
        retrained=_retrained(job, trials),
        csrf=csrf,
        budgets=budgets(trials),
        one_budget=len(set(budgets(trials))) == 1,
        chart=chart,
        csv=f"/jobs/{job.id}/charts/curves.csv?trials={address_list(trials)}",
        latency_axis=OBJECTIVES["latency_s"].display_unit,
        theme=dark_colours(),
        view={"figures": {"curves": chart.figure.to_plotly_json()}},
    )


def curves_chart(
    job: JobRecord, trials: Sequence[TrialRecord], measurements: Mapping[int, Sequence[MeasurementRecord]]
) -> Chart:
    """The learning curves of the trials in one figure."""
    known = [(name_of(trial), learning_curves(job, measurements.get(trial.number, ()))) for trial in trials]
    figure, rows = compared_curves(job, known)
    key = curve_key(job)
    return Chart(figure, ("trial", "seed", "steps", label(key)), rows)


def _retrained(job: JobRecord, trials: Sequence[TrialRecord]) -> list[int]:
    """Those that can be retrained as finalists: completed ones of an ended job that trains."""
    if not is_over(job) or job.spec.get("mode") == TRAINING_FREE:
        return []
    return [trial.number for trial in trials if trial.number >= 0 and trial.state == "completed"]


def name_of(trial: TrialRecord) -> str:
    return f"reference {trial.label}" if trial.number < 0 else f"trial {trial.label}"


def address_list(trials: Sequence[TrialRecord]) -> str:
    """The trials of a permalink: `3,7,R1`."""
    return ",".join(trial.label for trial in trials)


def _address(job: JobRecord, trials: Sequence[TrialRecord]) -> str:
    return f"/jobs/{job.id}/compare?trials={quote(address_list(trials), safe=',')}"


def _columns(job: JobRecord, trials: Sequence[TrialRecord]) -> list[Column]:
    architectures = [trial.architecture for trial in trials]
    columns = []
    for index, trial in enumerate(trials):
        others = [one for one in trials if one.number != trial.number]
        columns.append(
            Column(
                trial=trial,
                name=name_of(trial),
                mark=SERIES[index][3],
                series=index,
                what=describe(trial.architecture),
                drawing=draw_architecture(
                    trial.architecture, changed_parts(architectures, index), key=trial.label
                ),
                without=_address(job, others) if others else "",
                first=_address(job, [trial, *others]) if index else "",
            )
        )
    return columns


def _offers(job: JobRecord, trials: Sequence[TrialRecord], found: Sequence[Pick]) -> list[Offer]:
    """Each pick joins the comparison; where it is full, in place of the last trial."""
    here = {trial.number for trial in trials}
    offers = []
    for pick in found:
        if pick.trial is None:
            offers.append(Offer(pick, "", ""))
            continue
        joined = [*trials[: MAX_TRIALS - 1], pick.trial]
        address = "" if pick.trial.number in here else _address(job, joined)
        offers.append(Offer(pick, name_of(pick.trial), address))
    return offers
