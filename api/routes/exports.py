"""`/v1/jobs/{job_id}/exports` and `/v1/exports`: trained models as verified folders."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.background import BackgroundTask

from search.exporting import request_export
from search.job import describe_problems
from search.records import ArtefactRecord
from search.storage import artefacts, jobs
from search.storage.database import Database
from space.errors import ConflictError, InvalidInputError, NotFoundError

from ..answers import ExportAnswer, export_answer
from ..archive import zip_folder
from ..bodies import json_body
from ..deps import DatabaseDep, TenantDep
from ..documents import body_of

router = APIRouter(prefix="/v1", tags=["exports"])


class ExportRequest(BaseModel):
    """Which model, in which form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pick: str = Field("knee", max_length=40, description="knee, fastest, most-accurate, a number, or R1")
    formats: tuple[str, ...] = Field(("torch", "onnx"), min_length=1, max_length=8)
    quantize: str = Field(
        "none", max_length=20, description="none: the searched number formats; int8: all int8"
    )


@router.post("/jobs/{job_id}/exports", status_code=202, openapi_extra=body_of(ExportRequest))
async def create_export(
    job_id: str, request: Request, response: Response, database: DatabaseDep, tenant: TenantDep
) -> ExportAnswer:
    """Queues an export; its state says when it is ready."""
    data = await json_body(request)
    try:
        wanted = ExportRequest.model_validate(data)
    except ValidationError as error:
        raise InvalidInputError("\n".join(describe_problems(error, ExportRequest))) from error
    answer = export_answer(await run_in_threadpool(queue_export, database, job_id, tenant, wanted))
    response.headers["Location"] = f"/v1/exports/{answer['id']}"
    return answer


def queue_export(database: Database, job_id: str, tenant: str, wanted: ExportRequest) -> ArtefactRecord:
    """Asks for an export of a job of the tenant."""
    now = database.now()
    with database.write() as session:
        return request_export(
            session,
            jobs.resolve(session, job_id, tenant),
            wanted.pick,
            formats=wanted.formats,
            quantize=wanted.quantize,
            now=now,
        )


@router.get("/jobs/{job_id}/exports")
def list_exports(job_id: str, database: DatabaseDep, tenant: TenantDep) -> list[ExportAnswer]:
    """Exports of a job in order of their creation."""
    with database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
        return [export_answer(export) for export in artefacts.list_for_job(session, job.id)]


@router.get("/exports/{export_id}")
def read_export(export_id: str, database: DatabaseDep, tenant: TenantDep) -> ExportAnswer:
    """An export and what its verification found."""
    with database.read() as session:
        return export_answer(artefacts.get(session, export_id, tenant=tenant))


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
    """
    with database.read() as session:
        export = artefacts.get(session, export_id, tenant=tenant)
    if export.state != "ready" or export.path is None:
        raise ConflictError(
            f"export {export.id} is {export.state}" + (f": {export.message}" if export.message else "")
        )
    folder = database.data_dir / export.path
    if not folder.is_dir():
        raise NotFoundError(f"the files of export {export.id} are gone; export the trial again")
    label = f"R{-export.trial}" if export.trial < 0 else str(export.trial)
    name = f"paretoformer-{export.job_id[:8]}-{label}"
    archive = zip_folder(folder, name)
    return FileResponse(
        archive,
        media_type="application/zip",
        filename=f"{name}.zip",
        background=BackgroundTask(_remove, archive),
    )


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
