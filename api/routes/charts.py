"""The tables behind the charts of pages, as CSV."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from dashboards import (
    Chart,
    Selection,
    block_plan,
    chart_named,
    curves_chart,
    front_chart,
    job_charts,
    read_selection,
    trial_charts,
    twin_html,
)
from search.records import JobRecord, TrialRecord
from search.storage import jobs, trials

from ..deps import DatabaseDep, TenantDep
from ..gathering import gather, gather_front, of_blocks, of_trial
from ..tables import csv_text
from .compare import Names, chosen_trials, measurements_of, trial_numbers

router = APIRouter(include_in_schema=False)

Word = Annotated[str, Query(max_length=80)]
MAX_FIELDS = 200


@dataclass(frozen=True, slots=True)
class View:
    """What the address of a job page says of its charts, unread."""

    x: Word = ""
    y: Word = ""
    scale: Word = ""
    over: Word = ""
    zoom: Word = ""
    fields: tuple[tuple[str, str], ...] = ()
    """All of it."""


def view_of(
    request: Request, x: Word = "", y: Word = "", scale: Word = "", over: Word = "", zoom: Word = ""
) -> View:
    return View(x, y, scale, over, zoom, tuple(fields(request)))


def fields(request: Request) -> list[tuple[str, str]]:
    """The fields of the address in order; more than any form of ours has are cut off."""
    return [(name, text[:100]) for name, text in request.query_params.multi_items()[:MAX_FIELDS]]


ViewDep = Annotated[View, Depends(view_of)]


def selection(job: JobRecord, view: View) -> Selection:
    """
    Raises:
        InvalidInputError: the address asks for what there is not.
    """
    return read_selection(
        job,
        x=view.x,
        y=view.y,
        scale=view.scale,
        over=view.over or "trials",
        zoom=view.zoom,
        fields=view.fields,
    )


@router.get("/jobs/{job_id}/charts/{name}.csv")
def chart_csv(
    job_id: str,
    name: str,
    database: DatabaseDep,
    tenant: TenantDep,
    names: Annotated[list[str], Names],
    view: ViewDep,
) -> Response:
    """A chart of the job page in the view of its address, or `curves` of ?trials=."""
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        if name == "curves":
            chart = _curves(session, job, names)
        else:
            chosen = selection(job, view)
            rows = gather(session, job, chosen)
            found = job_charts(
                job,
                rows.trials,
                rows.references,
                rows.latencies,
                chosen,
                curves=rows.curves,
                many=rows.many,
            )
            chart = chart_named(found, name)
    return csv_answer(chart, f"{name}-{job.id[:8]}")


@router.get("/jobs/{job_id}/charts/front.json")
def front_view(job_id: str, database: DatabaseDep, tenant: TenantDep, view: ViewDep) -> JSONResponse:
    """The figure of the front and its table for another part of the plane, for the script of the page."""
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        chosen = selection(job, view)
        rows = gather_front(session, job, chosen)
    cloud = rows.many.cloud if rows.many else None
    chart = front_chart(job, rows.trials, rows.references, chosen, cloud)
    return JSONResponse(
        {"figure": chart.figure.to_plotly_json(), "twin": twin_html(chart), "note": chart.note}
    )


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
