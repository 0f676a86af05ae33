"""`/v1/jobs`: submit, list, look at, steer and delete jobs."""

import hashlib
import json
import shutil
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from typing_extensions import TypedDict

from search.job import JobSpec
from search.preview import preview_of
from search.records import JobRecord
from search.running import insert_job
from search.storage import idempotency, jobs
from search.storage.idempotency import Reply
from search.storage.jobs import Action
from space.errors import ConflictError, InvalidInputError, UnavailableError

from ..answers import JobAnswer, job_answer
from ..bodies import json_body
from ..deps import DatabaseDep, Services, ServicesDep, TenantDep
from ..documents import body_of
from ..submission import plan_submission

router = APIRouter(prefix="/v1", tags=["jobs"])

Key = Annotated[
    str | None, Header(alias="Idempotency-Key", max_length=200, description="Repeats are answered once")
]


class JobList(TypedDict):
    """A page of jobs, newest first, and where the next begins."""

    items: list[JobAnswer]
    next_cursor: str | None


@router.post("/jobs", status_code=202, response_model=JobAnswer, openapi_extra=body_of(JobSpec))
async def create_job(
    request: Request, response: Response, held: ServicesDep, tenant: TenantDep, key: Key = None
) -> Any:
    """Checks a job whole and queues it. A data set is a built-in name, or one the server offers."""
    data = await json_body(request)
    status, body, replayed = await run_in_threadpool(_submit, held, tenant, data, key)
    response.status_code = status
    response.headers["Location"] = f"/v1/jobs/{body['id']}"
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return body


def _submit(held: Services, tenant: str, data: object, key: str | None) -> tuple[int, Any, bool]:
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    if key is not None:
        with held.database.read() as session:
            if (known := idempotency.find(session, tenant, key, digest)) is not None:
                return known.status, known.body, True
    plan = plan_submission(data, held.settings)
    with held.database.write() as session:
        if key is not None and (known := idempotency.find(session, tenant, key, digest)) is not None:
            return known.status, known.body, True
        body = job_answer(insert_job(session, plan, tenant=tenant))
        if key is not None:
            idempotency.store(session, tenant, key, digest, Reply(202, body))
    return 202, body, False


@router.post("/jobs:preview", openapi_extra=body_of(JobSpec))
async def preview(request: Request, held: ServicesDep, _: TenantDep) -> dict[str, Any]:
    """What a job would do: size of its space, examples, an estimate of the time. Stores nothing."""
    data = await json_body(request)
    return await run_in_threadpool(_preview, held, data)


def _preview(held: Services, data: object) -> dict[str, Any]:
    plan = plan_submission(data, held.settings)
    if not held.heavy.acquire(blocking=False):
        raise UnavailableError("another preview or score is being computed; try again in a few seconds")
    try:
        return preview_of(plan)
    finally:
        held.heavy.release()


@router.get("/jobs")
def list_jobs(
    database: DatabaseDep,
    tenant: TenantDep,
    state: str | None = None,
    query: Annotated[str | None, Query(max_length=200, description="Part of the name")] = None,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> JobList:
    """Jobs, newest first."""
    with database.read() as session:
        page = jobs.list_jobs(session, tenant=tenant, state=state, query=query, cursor=cursor, limit=limit)
    return {"items": [job_answer(job) for job in page.items], "next_cursor": page.next_cursor}


@router.get("/jobs/{job_id}", response_model=JobAnswer)
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
    if if_none_match == tag:
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return job_answer(job)


class Renaming(TypedDict):
    """The new name of a job."""

    name: str


@router.patch("/jobs/{job_id}", openapi_extra=body_of(Renaming))
async def rename_job(
    job_id: str,
    request: Request,
    response: Response,
    database: DatabaseDep,
    tenant: TenantDep,
    if_match: Annotated[str | None, Header(description="Only if the job is still this version")] = None,
) -> JobAnswer:
    """Gives a job another name."""
    data = await json_body(request)
    if not isinstance(data, dict) or set(data) != {"name"} or not isinstance(data["name"], str):
        raise InvalidInputError('the body is {"name": "..."}; nothing else of a job can be changed')
    job = await run_in_threadpool(_rename, database, job_id, tenant, data["name"], if_match)
    response.headers["ETag"] = etag(job)
    return job_answer(job)


def _rename(database: DatabaseDep, job_id: str, tenant: str, name: str, tag: str | None) -> JobRecord:
    with database.write() as session:
        job = jobs.resolve(session, job_id, tenant)
        if tag is not None and tag != etag(job):
            raise ConflictError(f"job {job.id} has changed since {tag[:40]}; read it again first")
        return jobs.rename(session, job.id, name, tenant=tenant)


@router.delete("/jobs/{job_id}", status_code=204)
def delete_job(job_id: str, database: DatabaseDep, tenant: TenantDep) -> Response:
    """Removes an ended job, its trials, events and exports. Measurements stay: they serve other jobs."""
    with database.write() as session:
        folders = jobs.delete(session, jobs.resolve(session, job_id, tenant).id, tenant=tenant)
    for folder in folders:
        shutil.rmtree(database.data_dir / folder, ignore_errors=True)
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
    return f'"{job.version}"'


def _find(database: DatabaseDep, job_id: str, tenant: str) -> JobRecord:
    with database.read() as session:
        return jobs.resolve(session, job_id, tenant)
