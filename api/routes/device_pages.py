"""`/devices`: this machine, those of the table, and a job's front as it would be on one of them."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from dashboards import Question, devices_page, forecast_of
from evaluators.devices import Device, load_devices
from evaluators.latency import Target
from search.records import JobRecord, TrialRecord
from search.storage import jobs, overviews
from space.errors import InvalidInputError, NotFoundError

from ..deps import DatabaseDep, TenantDep
from ..devices import HERE, device_answers, stored_calibration
from .charts import csv_answer

router = APIRouter(include_in_schema=False)

OFFERED_JOBS = 50
MOST_ASKED = 240
"""Trials beside the fronts that are predicted too: one takes some milliseconds."""
Name = Annotated[str, Query(max_length=80)]


@router.get("/devices")
def devices(database: DatabaseDep, tenant: TenantDep, job: Name = "", device: Name = "") -> HTMLResponse:
    with database.read() as session:
        question = asked(session, tenant, job, device)
        rows = candidates(session, question.job)
        answers = device_answers(session)
    return HTMLResponse(devices_page(answers, question, rows))


@router.get("/devices/forecast.csv")
def forecast_csv(database: DatabaseDep, tenant: TenantDep, job: Name = "", device: Name = "") -> Response:
    """The table of the predicted front."""
    with database.read() as session:
        question = asked(session, tenant, job, device)
        rows = candidates(session, question.job)
    chart = forecast_of(question, rows)
    if chart is None or question.job is None:
        raise InvalidInputError("there is no front to predict; name a job and a device")
    return csv_answer(chart, f"forecast-{question.job.id[:8]}-{question.chosen_device}")


def asked(session: Session, tenant: str, job: str, device: str) -> Question:
    """What the address asks for; the newest job and the first device where it names none.

    Raises:
        NotFoundError: no such job, or no such device.
    """
    listed = jobs.list_jobs(session, tenant=tenant, limit=OFFERED_JOBS).items
    record = jobs.resolve(session, job, tenant) if job else next(iter(listed), None)
    here = _here(session)
    table = load_devices()
    offered = [(HERE, "this machine, as calibrated")] if here else []
    offered += [(one.name, one.title) for one in table.devices.values()]
    chosen = device or offered[0][0]
    if chosen == HERE and here is None:
        raise NotFoundError(
            "this machine is not calibrated; run `paretoformer device calibrate`, or choose another device"
        )
    names = [(one.id, f"{one.name} ({one.id[:8]})") for one in listed]
    if record is not None and record.id not in dict(names):
        names.insert(0, (record.id, f"{record.name} ({record.id[:8]})"))
    found = here if chosen == HERE else table.get(chosen)
    return Question(record, found, names, offered, chosen)


def _here(session: Session) -> Device | None:
    try:
        return stored_calibration(session, Target())
    except NotFoundError:
        return None


def candidates(session: Session, job: JobRecord | None) -> list[TrialRecord]:
    """Both fronts, the references, and others evenly."""
    if job is None:
        return []
    rows = [
        *overviews.numbered(session, job.id, overviews.notable(session, job.id)),
        *overviews.spread_completed(session, job.id, MOST_ASKED),
    ]
    return list({row.number: row for row in rows}.values())
