"""`/jobs/new/data`: a file from the form of a new job, as the script of the page sends it."""

from pathlib import PurePath
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from space.errors import InvalidInputError

from ..deps import ServicesDep, TenantDep
from ..uploads import SUFFIXES, Format, keep, receive
from .datasets import room_left

router = APIRouter(include_in_schema=False)


@router.post("/jobs/new/data")
async def upload(
    request: Request,
    held: ServicesDep,
    tenant: TenantDep,
    name: Annotated[str, Query(min_length=1, max_length=200)],
    x_form_token: Annotated[str, Header()] = "",
) -> JSONResponse:
    """Stores the body as a data set. The page's token comes in a header: the body is the file itself."""
    held.forms.check(request, x_form_token)
    form = format_of(name)
    room = await run_in_threadpool(room_left, held, tenant)
    got = await receive(request.stream(), held.database.data_dir, room)
    shown = "".join(letter for letter in name if letter.isprintable()) or "upload"
    record, _ = await run_in_threadpool(keep, held.database, got, tenant=tenant, name=shown, format=form)
    return JSONResponse({"dataset": record.handle, "name": record.name, "size_bytes": record.size_bytes})


def format_of(name: str) -> Format:
    """
    Raises:
        InvalidInputError: the name's ending is none of a data set.
    """
    suffix = PurePath(name).suffix.lower()
    for form, own in SUFFIXES.items():
        if suffix == own:
            return form
    raise InvalidInputError(
        f"'{name[:60]}' has no known ending; a data set ends in {', '.join(SUFFIXES.values())}"
    )
