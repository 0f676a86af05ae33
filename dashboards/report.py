"""The offline report: one HTML file with everything in it, to be kept or sent; it needs no server."""

import datetime as dt
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from search.export_facts import teacher_name
from search.objectives import OBJECTIVES, PROXY_SCORE
from search.records import JobRecord, MeasurementRecord, TrialRecord

from . import summary
from .assets import plotly_bundle, static_text
from .cloud import Many
from .drawing import draw_architecture
from .job_charts import job_charts
from .pages.environment import render
from .pages.job import spec_text
from .pages.twin import twin_html
from .pages.view import fragments
from .points import cell
from .theme import dark_colours
from .wording import describe, label

MAX_DRAWINGS = 8
OBTAINED = (
    (
        "test part",
        "evaluated once, for the finalists, after every choice was made; nothing was selected by it.",
    ),
    (
        "latency",
        "10th percentile (on a GPU the median) over repeated runs of the whole model, in turns with a "
        "reference network that shows contention, one measurement at a time on the host, with a 95 % "
        "interval. Predicted values are sums over measured blocks with a fitted correction, in a job without "
        "training fitted to models that were measured whole, and stand on no front.",
    ),
    ("flags", "noisy or contended: the machine was not quiet; the value is kept and marked."),
    (
        "hypervolume",
        "volume the front dominates, objectives scaled so that the best reference is 0 and the worst is 1 "
        "(latency as logarithm), bounded 10 % beyond the worst reference.",
    ),
    (
        "speed-up at equal quality",
        "latency of the reference front at the trial's quality, the logarithm of latency linear between "
        "neighbouring references, divided by the trial's latency; the interval combines those of all numbers "
        "involved.",
    ),
)
"""How the numbers came about that are the same in every job."""
OF_TRAININGS = ("test part", "speed-up at equal quality")
"""Those that a job without training does not have."""
UNTRAINED = (
    "minus the mean logarithm of where the proxies of an untrained network stand in a sample of the space; "
    "nothing was trained, and how accurate any of these models is nobody knows."
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One architecture of the report."""

    label: str
    what: str
    numbers: str
    svg: str


def report_html(
    job: JobRecord,
    trials: Sequence[TrialRecord],
    references: Sequence[TrialRecord],
    *,
    measurements: Mapping[str, Iterable[MeasurementRecord]] | None = None,
    curves: Mapping[str, Iterable[MeasurementRecord]] | None = None,
    warnings: Sequence[str] = (),
    now: dt.datetime | None = None,
    many: Many | None = None,
) -> str:
    """Self-contained HTML. `measurements`: latency ones by architecture id; `warnings`: of the events.

    `curves`: validation values by training id. `many`: where `trials` are only some of all.
    """
    now = now or dt.datetime.now(dt.UTC)
    known = {subject: list(records) for subject, records in (measurements or {}).items()}
    state = summary.status(job, trials, references, now, many.tally if many else None)
    charts = job_charts(job, trials, references, known, curves=curves, many=many)
    finalists = [trial for trial in trials if trial.final]
    drawn = (finalists or [trial for trial in trials if trial.on_front])[:MAX_DRAWINGS]
    return render(
        "report.html",
        job=job,
        s=state,
        written=now,
        html=fragments(job, trials, references, state, warnings=warnings, links=False, many=many),
        facts=summary.facts(job),
        conditions=[*summary.conditions(job), *device_rows(known)],
        obtained=obtained(job),
        drawings_title="The finalists, block by block" if finalists else "The front, block by block",
        drawings=[_drawn(job, trial) for trial in drawn],
        charts=charts,
        twins={name: twin_html(chart) for name, chart in charts.items()},
        spec_text=spec_text(job),
        theme=dark_colours(),
        view={"figures": {name: chart.figure.to_plotly_json() for name, chart in charts.items()}},
        css=static_text("app.css"),
        script=static_text("app.js"),
        plotly=_bundle_text(),
    )


def obtained(job: JobRecord) -> list[tuple[str, str]]:
    """One sentence per kind of number of this job."""
    training, finalists = job.spec["training"], job.spec["finalists"]
    quality = f"measured on validation data after {training['steps']:,} steps with one seed"
    if finalists["count"]:
        quality += (
            f"; finalists: mean of {finalists['seeds']} seeds after {finalists['steps']:,} steps, with a "
            "95 % interval over the seeds"
        )
        if teacher := job.context.get("teacher"):
            quality += f", taught by {teacher_name(teacher)}"
    quality += ". In the number formats that run, where the model was measured whole."
    is_trained = job.objectives[0] != PROXY_SCORE
    static = [label(key) for key, objective in OBJECTIVES.items() if objective.source == "static"]
    return [
        (label(job.objectives[0]), quality if is_trained else UNTRAINED),
        (", ".join(static), "computed in closed form from the architecture, without running it."),
        *(row for row in OBTAINED if is_trained or row[0] not in OF_TRAININGS),
    ]


def device_rows(measurements: Mapping[str, Sequence[MeasurementRecord]]) -> list[tuple[str, str]]:
    """Facts of the machine as the latency measurements recorded them, and the version of this program."""
    rows = [("paretoformer", _version())]
    records = [record for group in measurements.values() for record in group if record.detail.get("device")]
    if not records:
        return rows
    facts = max(records, key=lambda record: record.created_at).detail["device"]
    return [*rows, *((str(name), str(value)) for name, value in facts.items())]


def _drawn(job: JobRecord, trial: TrialRecord) -> Drawn:
    numbers = ", ".join(
        f"{label(key)} {number.text} {number.spread}".rstrip()
        for key in job.objectives
        for number in (cell(trial, key),)
    )
    return Drawn(trial.label, describe(trial.architecture), numbers, draw_architecture(trial.architecture))


@cache
def _bundle_text() -> str:
    """Plotly's script; it must not contain what would end the element it stands in."""
    text = plotly_bundle().read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")


def _version() -> str:
    try:
        return importlib.metadata.version("paretoformer")
    except importlib.metadata.PackageNotFoundError:
        return "from a checkout"
