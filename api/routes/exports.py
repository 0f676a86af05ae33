"""`/v1/jobs/{job_id}/exports` and `/v1/exports`: trained models as verified folders."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask

from search.export_files import published_files
from search.exporting import request_export
from search.job import describe_problems
from search.records import ArtefactRecord
from search.storage import artefacts, jobs
from search.storage.database import Database
from search.storage.idempotency import Reply
from search.workers.store import store_of
from space.errors import ConflictError, InvalidInputError
from space.export import FORMATS

from ..answers import ExportAnswer, export_answer
from ..archive import zip_files
from ..bodies import json_body
from ..deps import DatabaseDep, Services, ServicesDep, TenantDep
from ..documents import body_of
from ..once import Key, answer, asked
from ..problems import RequestError

router = APIRouter(prefix="/v1", tags=["exports"])


class ExportRequest(BaseModel):
    """Which model, in which form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pick: str = Field("knee", max_length=40, description="knee, fastest, most-accurate, a number, or R1")
    formats: tuple[str, ...] = Field(
        ("torch", "onnx"), min_length=1, max_length=8, description=f"Of {', '.join(FORMATS)}"
    )
    quantize: str = Field(
        "none",
        max_length=20,
        description="Of the ONNX files: none (as searched), int8 (dynamic), int8-static (calibrated), int4",
    )
    license: str | None = Field(
        None, max_length=100, pattern=r"^[A-Za-z0-9 .+()-]+$", description="SPDX id, for the model card"
    )
    allow_partial: bool = Field(
        False, description="Also of a job that goes on, or of a half trained trial; the report says partial"
    )


@router.post(
    "/jobs/{job_id}/exports",
    status_code=202,
    response_model=ExportAnswer,
    openapi_extra=body_of(ExportRequest, {"pick": "knee", "formats": ["torch", "onnx"], "quantize": "none"}),
)
async def create_export(
    job_id: str,
    request: Request,
    response: Response,
    held: ServicesDep,
    tenant: TenantDep,
    key: Key = None,
) -> Any:
    """Queues an export; its state says when it is ready."""
    wanted = export_request(await json_body(request))
    one = asked(tenant, key, f"exports/{job_id}", wanted.model_dump(mode="json"), artefacts.get)

    now = await run_in_threadpool(held.database.now)

    def store(session: Session) -> Reply:
        return Reply(202, export_answer(_request(session, held, job_id, tenant, wanted, now)))

    answered = await run_in_threadpool(answer, held.database, one, store)
    return answered.write(response, "/v1/exports/{id}")


def export_request(data: object) -> ExportRequest:
    """
    Raises:
        InvalidInputError: it is none; every line names a field.
    """
    try:
        return ExportRequest.model_validate(data)
    except ValidationError as error:
        raise InvalidInputError("\n".join(describe_problems(error, ExportRequest))) from error


def queue_export(held: Services, job_id: str, tenant: str, wanted: ExportRequest) -> ArtefactRecord:
    """Asks for an export of a job of the tenant."""
    now = held.database.now()
    with held.database.write() as session:
        return _request(session, held, job_id, tenant, wanted, now)


def _request(
    session: Session, held: Services, job_id: str, tenant: str, wanted: ExportRequest, now: float
) -> ArtefactRecord:
    job = jobs.resolve(session, job_id, tenant)
    if (waiting := artefacts.count_waiting(session, tenant)) >= held.settings.export_quota:
        raise RequestError(
            429,
            "quota_exceeded",
            f"{waiting} exports wait to be written, {held.settings.export_quota} may; wait or cancel some",
            headers={"Retry-After": "30"},
        )
    used, allowed = artefacts.used_bytes(session, tenant), held.settings.export_bytes
    if used >= allowed:
        raise RequestError(
            429,
            "quota_exceeded",
            f"exports of {used:,} bytes are stored, {allowed:,} are allowed; delete some, or their jobs",
            headers={"Retry-After": "60"},
        )
    return request_export(
        session,
        job,
        wanted.pick,
        formats=wanted.formats,
        quantize=wanted.quantize,
        allow_partial=wanted.allow_partial,
        licence=wanted.license,
        data_dir=held.database.data_dir,
        now=now,
    )


@router.get("/jobs/{job_id}/exports")
def list_exports(job_id: str, database: DatabaseDep, tenant: TenantDep) -> list[ExportAnswer]:
    """Exports of a job in order of their creation."""
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        found = artefacts.list_for_job(session, job.id)
    return [export_answer(export, database.data_dir) for export in found]


@router.get("/exports/{export_id}")
def read_export(export_id: str, database: DatabaseDep, tenant: TenantDep) -> ExportAnswer:
    """An export and what its verification found."""
    with database.read() as session:
        found = artefacts.get(session, export_id, tenant=tenant)
    return export_answer(found, database.data_dir)


@router.post("/exports/{export_id}/cancel")
def cancel_export(export_id: str, database: DatabaseDep, tenant: TenantDep) -> ExportAnswer:
    """Ends an export that is not written yet; 409 when it has ended."""
    with database.write() as session:
        return export_answer(artefacts.cancel(session, export_id, tenant=tenant, now=database.now()))


@router.delete("/exports/{export_id}", status_code=204)
def delete_export(export_id: str, database: DatabaseDep, tenant: TenantDep) -> Response:
    """Removes an ended export with its files; 409 while it waits or is written."""
    with database.write() as session:
        found = artefacts.delete(session, export_id, tenant=tenant)
    if found.path is not None:
        store_of(database).remove(found.path)
    return Response(status_code=204)


@router.get(
    "/exports/{export_id}/file",
    response_class=FileResponse,
    responses={200: {"content": {"application/zip": {}}}},
)
def read_export_file(export_id: str, database: DatabaseDep, tenant: TenantDep) -> Any:
    """The folder as a zip without compression."""
    return export_file(database, export_id, tenant)


def export_file(database: Database, export_id: str, tenant: str) -> FileResponse:
    """
    Raises:
        ConflictError: it is not ready.
        ArtefactMissingError: its files are not those that were published.
    """
    with database.read() as session:
        export = artefacts.get(session, export_id, tenant=tenant)
    if export.state != "ready" or export.path is None:
        raise ConflictError(
            f"export {export.id} is {export.state}" + (f": {export.message}" if export.message else "")
        )
    store_of(database).fetch(export.path)
    contents = published_files(database.data_dir, export)
    label = f"R{-export.trial}" if export.trial < 0 else str(export.trial)
    name = f"paretoformer-{export.job_id[:8]}-{label}"
    archive = zip_files(contents, name)
    return FileResponse(
        archive,
        media_type="application/zip",
        filename=f"{name}.zip",
        background=BackgroundTask(_remove, archive),
    )


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
