"""`/v1/jobs/{job_id}/trials`, `/front` and `/indicators`: what a job has found."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from typing_extensions import TypedDict

from search.storage import jobs, trials

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
from ..deps import DatabaseDep, TenantDep
from ..gathering import of_trial
from ..tables import front_csv

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["trials and fronts"])
CSV = "text/csv"


class TrialList(TypedDict):
    """A page of trials, and where the next begins."""

    items: list[TrialAnswer]
    next_cursor: str | None


@router.get("/trials")
def list_trials(
    job_id: str,
    database: DatabaseDep,
    tenant: TenantDep,
    group: Literal["search", "reference", "all"] = "search",
    state: str | None = None,
    on_front: bool | None = None,
    sort: Annotated[
        str, Query(max_length=40, description="number, or an objective's key; - turns it round")
    ] = "number",
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> TrialList:
    """Trials of a job."""
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        page = trials.list_trials(
            session,
            job.id,
            group=group,
            state=state,
            on_front=on_front,
            sort=sort,
            cursor=cursor,
            limit=limit,
        )
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
    "/front",
    response_model=FrontAnswer | ColumnsAnswer,
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}}}},
)
def read_front(
    job_id: str,
    database: DatabaseDep,
    tenant: TenantDep,
    layout: Annotated[Literal["rows", "columnar"], Query(description="Rows, or one list per trial")] = "rows",
    accept: Annotated[str | None, Header()] = None,
) -> Any:
    """The Pareto front, fastest first; as CSV with `Accept: text/csv`."""
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        front = trials.front(session, job.id, "search")
        rows = trials.all_trials(session, job.id) if layout == "rows" else []
    if accept is not None and CSV in accept:
        return Response(front_csv(front_columns(job, front)), media_type=CSV)
    if layout == "columnar":
        return front_columns(job, front)
    references = sorted((row for row in rows if row.number < 0), key=lambda row: -row.number)
    return front_answer(job, front, references)


@router.get("/indicators")
def read_indicators(job_id: str, database: DatabaseDep, tenant: TenantDep) -> dict[str, Any]:
    """Hypervolume, gain over the references, speed-up at equal quality, suggestions."""
    with database.read() as session:
        return dict(jobs.resolve(session, job_id, tenant).indicators)
