"""The tables behind the charts of pages, as CSV."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from dashboards import (
    Chart,
    Selection,
    block_plan,
    chart_named,
    curves_chart,
    job_charts,
    read_selection,
    trial_charts,
)
from search.records import JobRecord, TrialRecord
from search.storage import jobs, trials

from ..deps import DatabaseDep, TenantDep
from ..gathering import gather, of_blocks, of_trial
from ..tables import csv_text
from .compare import Names, chosen_trials, measurements_of, trial_numbers

router = APIRouter(include_in_schema=False)

Word = Annotated[str, Query(max_length=60)]


def selection(job: JobRecord, x: str, y: str, scale: str, over: str) -> Selection:
    return read_selection(job, x=x, y=y, scale=scale, over=over or "trials")


@router.get("/jobs/{job_id}/charts/{name}.csv")
def chart_csv(
    job_id: str,
    name: str,
    database: DatabaseDep,
    tenant: TenantDep,
    names: Annotated[list[str], Names],
    x: Word = "",
    y: Word = "",
    scale: Word = "",
    over: Word = "",
) -> Response:
    """`front` on the axes of the page's address, `progress`, `funnel`, `latency`; `curves` of ?trials=."""
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        if name == "curves":
            chart = _curves(session, job, names)
        else:
            rows = gather(session, job)
            chosen = selection(job, x, y, scale, over)
            found = job_charts(job, rows.trials, rows.references, rows.latencies, chosen)
            chart = chart_named(found, name)
    return csv_answer(chart, f"{name}-{job.id[:8]}")


def csv_answer(chart: Chart, name: str) -> Response:
    """The whole table of a chart, to be saved."""
    return Response(
        csv_text(chart.columns, chart.rows),
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )


def _curves(session: Session, job: JobRecord, names: list[str]) -> Chart:
    chosen = chosen_trials(session, job, trial_numbers(names))
    return curves_chart(job, chosen, measurements_of(session, chosen))


@router.get("/jobs/{job_id}/trials/{number}/charts/{name}.csv")
def trial_chart_csv(
    job_id: str, number: int, name: str, database: DatabaseDep, tenant: TenantDep
) -> Response:
    """`curve`, `blocks` or `memory` of a trial."""
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        trial = trials.get(session, job.id, number)
        chart = chart_named(charts_of(session, job, trial), name)
    return csv_answer(chart, f"{name}-{job.id[:8]}-{trial.label}")


def charts_of(session: Session, job: JobRecord, trial: TrialRecord) -> dict[str, Chart]:
    """The charts of a trial's page."""
    plan = block_plan(job, trial)
    return trial_charts(job, trial, of_trial(session, trial), plan, of_blocks(session, plan))
