"""`/v1/jobs/{job_id}/events`: what happens in a job, as it happens."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from search.storage import jobs

from ..deps import ServicesDep, TenantDep
from ..stream import event_stream

router = APIRouter(prefix="/v1", tags=["events"])
SSE = "text/event-stream"

After = Annotated[int, Query(ge=0, description="Sequence number of the last event that was seen")]
LastEventId = Annotated[str | None, Header(description="The same, as browsers send it when they reconnect")]


@router.get(
    "/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {SSE: {"schema": {"type": "string"}}}}},
)
def read_events(
    job_id: str, held: ServicesDep, tenant: TenantDep, after: After = 0, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Server-sent events from `after` on; the stream ends after the job's last event."""
    with held.database.read() as session:
        job = jobs.resolve(session, job_id, tenant)
    seen = int(last_event_id) if last_event_id is not None and _is_number(last_event_id) else after
    return StreamingResponse(event_stream(held, job.id, seen), media_type=SSE)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19
