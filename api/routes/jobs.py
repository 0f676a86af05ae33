"""`/v1/jobs`: submit, list, look at, steer and delete jobs."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from search.job import JobSpec, describe_problems
from search.plan import job_context
from search.preview import preview_of
from search.records import JobRecord, JobState
from search.storage import jobs
from search.storage.database import Database
from search.storage.idempotency import Reply
from search.storage.jobs import Action
from search.workers.store import store_of
from space.errors import InvalidInputError, UnavailableError

from ..answers import JobAnswer, job_answer
from ..bodies import json_body
from ..deps import DatabaseDep, Services, ServicesDep, TenantDep
from ..documents import body_of
from ..once import Answered, Key, answer, asked, known
from ..submission import plan_submission, store_plan
from ..tags import is_known, require, tag_of

router = APIRouter(prefix="/v1", tags=["jobs"])
JOB = {
    "name": "small",
    "task": {"kind": "language-model", "dataset": "python-stdlib"},
    "space": {"set": {"d_model": [32, 48], "num_layers": [1, 2]}},
    "objectives": ["bits_per_byte", "latency"],
    "training": {"steps": 150, "rungs": 2},
    "budget": {"trials": 24, "time": "10m"},
}
CHANGE = {"name": "a better name", "labels": ["night", "team:vision"]}


class JobList(TypedDict):
    """A page of jobs, newest first, and where the next begins."""

    items: list[JobAnswer]
    next_cursor: str | None


@router.post("/jobs", status_code=202, response_model=JobAnswer, openapi_extra=body_of(JobSpec, JOB))
async def create_job(
    request: Request, response: Response, held: ServicesDep, tenant: TenantDep, key: Key = None
) -> Any:
    """Checks a job whole and queues it. A data set is a built-in name, or one the server offers."""
    data = await json_body(request)
    answered = await run_in_threadpool(_submit, held, tenant, data, key)
    return answered.write(response, "/v1/jobs/{id}")


def _submit(held: Services, tenant: str, data: object, key: str | None) -> Answered:
    one = asked(tenant, key, "jobs", data, jobs.get)
    if (before := known(held.database, one)) is not None:
        return before
    plan = plan_submission(data, held, tenant)

    context = job_context(plan)

    def store(session: Session) -> Reply:
        return Reply(202, job_answer(store_plan(session, plan, context, held, tenant)))

    return answer(held.database, one, store)


@router.post("/jobs:preview", openapi_extra=body_of(JobSpec, JOB))
async def preview(request: Request, held: ServicesDep, tenant: TenantDep) -> dict[str, Any]:
    """What a job would do: size of its space, examples, an estimate of the time. Stores nothing."""
    data = await json_body(request)
    return await run_in_threadpool(_preview, held, data, tenant)


def _preview(held: Services, data: object, tenant: str) -> dict[str, Any]:
    plan = plan_submission(data, held, tenant)
    if not held.heavy.acquire(blocking=False):
        raise UnavailableError("another preview or score is being computed; try again in a few seconds")
    try:
        return preview_of(plan)
    finally:
        held.heavy.release()


@router.get("/jobs")
def list_jobs(
    held: ServicesDep,
    tenant: TenantDep,
    state: JobState | None = None,
    query: Annotated[str | None, Query(max_length=200, description="Part of the name")] = None,
    label: Annotated[str | None, Query(max_length=40, description="One of its labels")] = None,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> JobList:
    """Jobs, newest first."""
    inner = held.cursors.opened(cursor, "jobs", tenant)
    with held.database.read() as session:
        page = jobs.list_jobs(
            session, tenant=tenant, state=state, query=query, label=label, cursor=inner, limit=limit
        )
    page = held.cursors.sealed(page, "jobs", tenant)
    return {"items": [job_answer(job) for job in page.items], "next_cursor": page.next_cursor}


@router.get("/jobs/{job_id}", response_model=JobAnswer, responses={304: {"description": "Not changed"}})
def read_job(
    job_id: str,
    response: Response,
    database: DatabaseDep,
    tenant: TenantDep,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Any:
    """A job as it stands, with its indicators. The beginning of an id, 4 characters or more, is enough."""
    job = _find(database, job_id, tenant)
    tag = etag(job)
    if is_known(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return job_answer(job)


class Change(BaseModel):
    """What may be changed of a job; what is left out stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str | None, Field(min_length=1, max_length=200, description="On one line")] = None
    labels: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,39}$")]] | None,
        Field(max_length=jobs.MAX_LABELS, description="Words to find the job by; replaces all of them"),
    ] = None


@router.patch("/jobs/{job_id}", openapi_extra=body_of(Change, CHANGE))
async def change_job(
    job_id: str,
    request: Request,
    response: Response,
    database: DatabaseDep,
    tenant: TenantDep,
    if_match: Annotated[str | None, Header(description="Only if the job is still this version")] = None,
) -> JobAnswer:
    """Gives a job another name or other labels."""
    data = await json_body(request)
    try:
        change = Change.model_validate(data)
    except ValidationError as error:
        raise InvalidInputError("\n".join(describe_problems(error, Change))) from error
    job = await run_in_threadpool(_change, database, job_id, tenant, change, if_match)
    response.headers["ETag"] = etag(job)
    return job_answer(job)


def _change(database: Database, job_id: str, tenant: str, change: Change, tag: str | None) -> JobRecord:
    with database.write() as session:
        job = jobs.lock(session, jobs.resolve(session, job_id, tenant).id, tenant=tenant)
        require(tag, etag(job), f"job {job.id}")
        if change.name is not None:
            job = jobs.rename(session, job.id, change.name, tenant=tenant)
        if change.labels is not None:
            job = jobs.set_labels(session, job.id, change.labels, tenant=tenant)
        return job


@router.delete("/jobs/{job_id}", status_code=204)
def delete_job(job_id: str, database: DatabaseDep, tenant: TenantDep) -> Response:
    """Removes an ended job, its trials, events and exports. Measurements stay: they serve other jobs."""
    with database.write() as session:
        folders = jobs.delete(session, jobs.resolve(session, job_id, tenant).id, tenant=tenant)
    for folder in folders:
        store_of(database).remove(folder)
    return Response(status_code=204)


def _steer(database: DatabaseDep, job_id: str, tenant: str, action: Action) -> JobAnswer:
    with database.write() as session:
        job = jobs.resolve(session, job_id, tenant)
        return job_answer(jobs.request(session, job.id, action, tenant=tenant))


@router.post("/jobs/{job_id}/pause")
def pause_job(job_id: str, database: DatabaseDep, tenant: TenantDep) -> JobAnswer:
    """Nothing new starts; running work goes on."""
    return _steer(database, job_id, tenant, "pause")


@router.post("/jobs/{job_id}/resume")
def resume_job(job_id: str, database: DatabaseDep, tenant: TenantDep) -> JobAnswer:
    """Goes on where the job was paused."""
    return _steer(database, job_id, tenant, "resume")


@router.post("/jobs/{job_id}/stop")
def stop_job(job_id: str, database: DatabaseDep, tenant: TenantDep) -> JobAnswer:
    """Nothing new starts; running work finishes, then the job is complete."""
    return _steer(database, job_id, tenant, "stop")


@router.post("/jobs/{job_id}/cancel")
def cancel_job(job_id: str, database: DatabaseDep, tenant: TenantDep) -> JobAnswer:
    """Running work is ended now; what was counted stays."""
    return _steer(database, job_id, tenant, "cancel")


def etag(job: JobRecord) -> str:
    """The version of a job for If-Match and If-None-Match."""
    return tag_of(job.version)


def _find(database: DatabaseDep, job_id: str, tenant: str) -> JobRecord:
    with database.read() as session:
        return jobs.resolve(session, job_id, tenant)
