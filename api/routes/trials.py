"""`/v1/jobs/{job_id}/trials`, `/front` and `/indicators`: what a job has found."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from dashboards import MOST_LINES, log_text
from search.records import JobRecord, TrialState
from search.storage import events, jobs, logs, trials

from ..answers import (
    ColumnsAnswer,
    FrontAnswer,
    TrialAnswer,
    TrialDetail,
    front_answer,
    front_columns,
    measurement_answer,
    trial_answer,
)
from ..deps import DatabaseDep, ServicesDep, TenantDep
from ..gathering import of_trial
from ..kept import kept
from ..tables import front_csv
from ..tags import is_known, tag_of

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["trials and fronts"])
CSV = "text/csv"


class TrialList(TypedDict):
    """A page of trials, and where the next begins."""

    items: list[TrialAnswer]
    next_cursor: str | None


@router.get("/trials")
def list_trials(
    job_id: str,
    held: ServicesDep,
    tenant: TenantDep,
    group: Literal["search", "reference", "all"] = "search",
    state: TrialState | None = None,
    on_front: bool | None = None,
    sort: Annotated[
        str, Query(max_length=40, description="number, or an objective's key; - turns it round")
    ] = "number",
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> TrialList:
    """Trials of a job."""
    with held.database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        listing = f"trials/{job.id}/{group}/{state}/{on_front}/{sort}"
        page = trials.list_trials(
            session,
            job.id,
            group=group,
            state=state,
            on_front=on_front,
            sort=sort,
            cursor=held.cursors.opened(cursor, listing, tenant),
            limit=limit,
        )
    page = held.cursors.sealed(page, listing, tenant)
    return {"items": [trial_answer(trial) for trial in page.items], "next_cursor": page.next_cursor}


@router.get("/trials/{number}")
def read_trial(job_id: str, number: int, database: DatabaseDep, tenant: TenantDep) -> TrialDetail:
    """A trial with its measurements. References have negative numbers: -1 is R1."""
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        trial = trials.get(session, job.id, number)
        found = [measurement_answer(record) for record in of_trial(session, trial)]
    return {**trial_answer(trial), "measurements": found}


@router.get(
    "/trials/{number}/log",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def read_log(
    job_id: str,
    number: int,
    database: DatabaseDep,
    tenant: TenantDep,
    lines: Annotated[int, Query(ge=1, le=MOST_LINES, description="At most so many, the last ones")] = 1000,
) -> PlainTextResponse:
    """What workers logged about a trial, one line each: moment, level, piece of work, text."""
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        trial = trials.get(session, job.id, number)
        found = logs.of_trial(session, job.id, trial.number)
    return PlainTextResponse(log_text(found, lines))


@router.get(
    "/front",
    response_model=FrontAnswer | ColumnsAnswer,
    responses={
        200: {"content": {CSV: {"schema": {"type": "string"}}}},
        304: {"description": "Not changed"},
    },
)
def read_front(
    job_id: str,
    held: ServicesDep,
    tenant: TenantDep,
    layout: Annotated[Literal["rows", "columnar"], Query(description="Rows, or one list per trial")] = "rows",
    accept: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The Pareto front, fastest first; as CSV with `Accept: text/csv`."""
    form = "csv" if accepts_csv(accept) else layout
    with held.database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        tag = tag_of(job.version, events.last_seq(session, job.id), form)
        headers = {"ETag": tag, "Vary": "Accept"}
        if is_known(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        text = kept(session, job, ("front", form), lambda: _front(session, job, form))
    return Response(text, media_type=CSV if form == "csv" else "application/json", headers=headers)


def _front(session: Session, job: JobRecord, form: str) -> bytes:
    """The answer itself. Written directly: its shape is `FrontAnswer`, which tests hold it to."""
    front = trials.front(session, job.id, "search")
    if form == "csv":
        return front_csv(front_columns(job, front)).encode()
    columnar = front_columns(job, front)
    found = columnar if form == "columnar" else front_answer(job, front, trials.references(session, job.id))
    return json.dumps(found, allow_nan=False, separators=(",", ":")).encode()


def accepts_csv(accept: str | None) -> bool:
    """
    >>> [accepts_csv(text) for text in ("text/csv", "text/html, text/csv;q=0.5", "*/*", None)]
    [True, True, False, False]
    """
    return any(one.partition(";")[0].strip().lower() == CSV for one in (accept or "").split(","))


@router.get("/indicators")
def read_indicators(job_id: str, database: DatabaseDep, tenant: TenantDep) -> dict[str, Any]:
    """Hypervolume, gain over the references, speed-up at equal quality, suggestions."""
    with database.read() as session:
        return dict(jobs.resolve(session, job_id, tenant).indicators)
