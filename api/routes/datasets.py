"""`/v1/datasets`: a user's own data, sent once and named `data_<id>` in jobs."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from typing_extensions import TypedDict

from search.storage import datasets
from search.storage.datasets import DatasetRecord
from search.workers.store import store_of
from space.errors import InvalidInputError

from ..answers import moment
from ..deps import DatabaseDep, Services, ServicesDep, TenantDep
from ..problems import RequestError
from ..uploads import ANY_MEDIA_TYPE, FORMATS, MEDIA_TYPES, Format, keep, receive

router = APIRouter(prefix="/v1", tags=["datasets"])
_BODY = {
    "requestBody": {
        "required": True,
        "description": "The file itself",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in (*MEDIA_TYPES, ANY_MEDIA_TYPE)
        },
    }
}


class DatasetAnswer(TypedDict):
    """An uploaded data set. `dataset` is its name in `task.dataset` of a job."""

    id: str
    dataset: str
    name: str
    format: str
    size_bytes: int
    sha256: str
    facts: dict[str, Any]
    created_at: str | None


class DatasetList(TypedDict):
    """A page of data sets, newest first, and where the next begins."""

    items: list[DatasetAnswer]
    next_cursor: str | None


@router.post(
    "/datasets",
    status_code=201,
    response_model=DatasetAnswer,
    responses={200: {"model": DatasetAnswer, "description": "The same file was there already"}},
    openapi_extra=_BODY,
)
async def create_dataset(
    request: Request,
    response: Response,
    held: ServicesDep,
    tenant: TenantDep,
    name: Annotated[str, Query(min_length=1, max_length=200, description="What to call it")] = "upload",
    format: Annotated[Format | None, Query(description="Where the content type does not say")] = None,
) -> Any:
    """Stores a file: `.npz` arrays without pickles, CSV, JSON lines, Parquet or text. Send it as the body."""
    form = upload_format(request, format)
    if not name.isprintable():
        raise InvalidInputError("name: a name has printable characters on one line")
    room = await run_in_threadpool(room_left, held, tenant)
    got = await receive(request.stream(), held.database.data_dir, room)
    record, is_new = await run_in_threadpool(keep, held.database, got, tenant=tenant, name=name, format=form)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/datasets/{record.id}"
    return dataset_answer(record)


def upload_format(request: Request, named: Format | None) -> Format:
    """
    Raises:
        RequestError: 415: a content type that is no data set, or one that contradicts `format`.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given == ANY_MEDIA_TYPE and named is not None:
        return named
    found = MEDIA_TYPES.get(given)
    if found is None or named not in (None, found):
        raise RequestError(
            415,
            "unsupported_media_type",
            f"content type '{given[:100]}' is no data set; send one of {', '.join(MEDIA_TYPES)}, "
            f"or {ANY_MEDIA_TYPE} with the query format={'|'.join(FORMATS)}",
        )
    return found


def room_left(held: Services, tenant: str) -> int:
    """Bytes that the tenant may still store, at most one upload's.

    Raises:
        RequestError: 429: nothing is left.
    """
    with held.database.read() as session:
        used = datasets.used_bytes(session, tenant)
    left = held.settings.dataset_quota - used
    if left <= 0:
        raise RequestError(
            429,
            "quota_exceeded",
            f"{used:,} bytes of data sets are stored, {held.settings.dataset_quota:,} are allowed; "
            "delete some",
            headers={"Retry-After": "60"},
        )
    return min(left, held.settings.dataset_limit)


@router.get("/datasets")
def list_datasets(
    held: ServicesDep,
    tenant: TenantDep,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> DatasetList:
    """Uploaded data sets, newest first."""
    inner = held.cursors.opened(cursor, "datasets", tenant)
    with held.database.read() as session:
        page = datasets.list_datasets(session, tenant=tenant, cursor=inner, limit=limit)
    page = held.cursors.sealed(page, "datasets", tenant)
    return {"items": [dataset_answer(one) for one in page.items], "next_cursor": page.next_cursor}


@router.get("/datasets/{dataset_id}")
def read_dataset(dataset_id: str, database: DatabaseDep, tenant: TenantDep) -> DatasetAnswer:
    """An uploaded data set by its id, or by its name in jobs."""
    with database.read() as session:
        return dataset_answer(datasets.get(session, dataset_id, tenant=tenant))


@router.delete("/datasets/{dataset_id}", status_code=204)
def delete_dataset(dataset_id: str, database: DatabaseDep, tenant: TenantDep) -> Response:
    """Removes a data set that no stored job uses."""
    with database.write() as session:
        record = datasets.delete(session, dataset_id, tenant=tenant)
    store_of(database).remove(record.path)
    return Response(status_code=204)


def dataset_answer(record: DatasetRecord) -> DatasetAnswer:
    """A data set without its place on the server."""
    return {
        "id": record.id,
        "dataset": record.handle,
        "name": record.name,
        "format": record.format,
        "size_bytes": record.size_bytes,
        "sha256": record.sha256,
        "facts": dict(record.facts),
        "created_at": moment(record.created_at),
    }
