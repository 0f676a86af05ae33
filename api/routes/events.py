"""`/v1/jobs/{job_id}/events`: what happens in a job, as it happens."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from search.storage import jobs

from ..deps import CallerDep, ServicesDep
from ..stream import SSE, stream_answer

router = APIRouter(prefix="/v1", tags=["events"])

MAX_SEQ = 2**53 - 1
"""The largest whole number that JSON clients keep exact."""

After = Annotated[int, Query(ge=0, le=MAX_SEQ, description="Sequence number of the last event that was seen")]
LastEventId = Annotated[str | None, Header(description="The same, as browsers send it when they reconnect")]


@router.get(
    "/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {SSE: {"schema": {"type": "string"}}}}},
)
def read_events(
    job_id: str, held: ServicesDep, caller: CallerDep, after: After = 0, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Server-sent events from `after` on; the stream ends after the job's last event."""
    with held.database.read() as session:
        job = jobs.resolve(session, job_id, caller.tenant)
    return stream_answer(held, job.id, seen_seq(after, last_event_id), caller.name)


def seen_seq(after: int, last_event_id: str | None) -> int:
    """Where a stream goes on: what the browser saw last, when it says so in a number we could have sent."""
    text = last_event_id or ""
    sent = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_SEQ))
    return min(int(text), MAX_SEQ) if sent else after
