"""All trials of a job at once: the page, its rows as CSV, and quantities of every trial for the cloud."""

import array
import sys
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from dashboards import explore_chart, explore_page
from search.objectives import OBJECTIVES
from search.records import JobRecord, TrialRecord
from search.storage import jobs, overviews

from ..deps import DatabaseDep, TenantDep
from ..remembered import remembered
from .charts import View, csv_answer, fields, selection

router = APIRouter(include_in_schema=False)

MAX_ROWS = 2000
Axis = Annotated[str, Query(max_length=60)]


@router.get("/jobs/{job_id}/explore")
def explore(
    request: Request, job_id: str, database: DatabaseDep, tenant: TenantDep, x: Axis = "", y: Axis = ""
) -> HTMLResponse:
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        chosen = selection(job, View(x=x, y=y))
        rows = _sample(session, job)
        total = overviews.count(session, job.id)
    return HTMLResponse(explore_page(job, rows, total, fields(request), chosen))


@router.get("/jobs/{job_id}/explore.csv")
def explore_csv(request: Request, job_id: str, database: DatabaseDep, tenant: TenantDep) -> Response:
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        rows = _sample(session, job)
    return csv_answer(explore_chart(job, rows, fields(request)), f"trials-{job.id[:8]}")


@router.get("/jobs/{job_id}/columns/{key}")
def column(job_id: str, key: str, database: DatabaseDep, tenant: TenantDep) -> Response:
    """Little-endian 32-bit floats, one per trial by number, NaN where it is unknown.

    `key`: an objective key in its stored unit, `number`, or `state`: 1 on the front, 0 else.
    """
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        packed = remembered(session, job, ("column", key), lambda: packed_column(session, job, key))
    return Response(packed, media_type="application/octet-stream")


def packed_column(session: Session, job: JobRecord, key: str) -> bytes:
    """See `column`."""
    quantity = key if key not in ("number", "state") else next(iter(OBJECTIVES))
    dots = overviews.dots(session, job.id, quantity)
    if key == "number":
        values = [float(dot.number) for dot in dots]
    elif key == "state":
        values = [float(dot.on_front) for dot in dots]
    else:
        values = [float("nan") if dot.value is None else dot.value for dot in dots]
    packed = array.array("f", values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _sample(session: Session, job: JobRecord) -> list[TrialRecord]:
    return remembered(session, job, "explored", lambda: overviews.sample(session, job.id, MAX_ROWS))
